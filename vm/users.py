"""Users and groups of the image, without an account of this machine getting in.

Three sources: Debian's fixed list (base-passwd), what packages declare (sysusers.d(5)), and the box's own from
package/vigie/users.table (Buildroot's form: name uid group gid password home shell groups comment), the one place that
names them. This machine's systemd-sysusers may be older than the packages' files, so their few forms are read here.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from vm.errors import VmError
from vm.tools import ROOT

TABLE = ROOT / "package" / "vigie" / "users.table"
TABLE_FIELDS = 9
NOLOGIN = "/usr/sbin/nologin"
HIGHEST = 999
"""packages that ask for no number get the highest free ones, downwards, as systemd gives them"""


@dataclass
class Accounts:
    """Users (name -> passwd fields after the name) and groups (name -> number, members)."""

    users: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def free(self) -> int:
        """A number that is neither a user's nor a group's."""
        taken = {int(fields[1]) for fields in self.users.values()} | {number for number, _ in self.groups.values()}
        return next(number for number in range(HIGHEST, 0, -1) if number not in taken)

    def add_group(self, name: str, number: int | None = None) -> int:
        if name not in self.groups:
            self.groups[name] = (self.free() if number is None else number, [])
        return self.groups[name][0]

    def add_user(self, name: str, number: int | None, group: str, comment: str, home: str, shell: str) -> None:
        """With a group of that name and number unless another one is named."""
        if name in self.users:
            return
        if number is None:
            number = self.groups[group][0] if group == name and group in self.groups else self.free()
        gid = self.add_group(group, number if group == name else None)
        self.users[name] = ["x", str(number), str(gid), comment, home or "/", shell or NOLOGIN]

    def add_member(self, user: str, group: str) -> None:
        self.add_group(group)
        members = self.groups[group][1]
        if user not in members:
            members.append(user)

    # -- the three sources ------------------------------------------------------------------------------

    def read_masters(self, passwd: str, group: str) -> None:
        """base-passwd's lists."""
        for line in passwd.splitlines():
            name, _password, *rest = line.split(":")
            self.users[name] = ["x", *rest]
        for line in group.splitlines():
            name, _password, number, members = line.split(":")
            self.groups[name] = (int(number), [one for one in members.split(",") if one])

    def read_sysusers(self, text: str, where: str) -> None:
        """Lines u, g, m and r of sysusers.d(5)."""
        for number, line in enumerate(text.splitlines(), 1):
            words = shlex.split(line, comments=True)
            if not words:
                continue
            kind, name = words[0].rstrip("!"), words[1]
            ids, comment, home, shell = ([*words[2:], "-", "-", "-", "-"])[:4]
            if kind == "g":
                self.add_group(name, _number(ids))
            elif kind == "u":
                uid, _, gid = ids.partition(":")
                group = gid if gid and not gid.isdigit() else name
                self.add_user(name, _number(uid), group, _word(comment), _word(home), _word(shell))
            elif kind == "m":
                self.add_member(name, ids)
            elif kind != "r":
                raise VmError(f"{where}:{number}: {line}: this form of sysusers.d is not known to vm/users.py")

    def read_table(self, text: str, where: str) -> None:
        """Buildroot's users table. Raises VmError for a line that is no user."""
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = line.split(maxsplit=TABLE_FIELDS - 1)
            if len(words) < TABLE_FIELDS - 1:
                raise VmError(f"{where}:{number}: {len(words)} fields, must be {TABLE_FIELDS}: {line}")
            rows.append([*words, ""][:TABLE_FIELDS])
        for _name, _uid, group, gid, *_rest in rows:  # a member may come before the line that numbers the group
            if group != "-":
                self.add_group(group, _number(gid))
        for name, uid, group, _gid, _password, home, shell, groups, comment in rows:
            if name == "-":
                continue
            self.add_user(name, _number(uid), group, comment, _path(home), _path(shell))
            for one in groups.split(","):
                if one != "-":
                    self.add_member(name, one)

    # -- the files ----------------------------------------------------------------------------------------

    def files(self) -> dict[str, tuple[str, int]]:
        """Name of each file of /etc -> content, mode. Nobody has a password."""
        users = sorted(self.users.items(), key=lambda item: int(item[1][1]))
        groups = sorted(self.groups.items(), key=lambda item: item[1][0])
        return {
            "passwd": ("".join(f"{name}:{':'.join(fields)}\n" for name, fields in users), 0o644),
            "group": ("".join(f"{name}:x:{gid}:{','.join(members)}\n" for name, (gid, members) in groups), 0o644),
            "shadow": ("".join(f"{name}:!*:1::::::\n" for name, _ in users), 0o600),
            "gshadow": ("".join(f"{name}:!*::{','.join(members)}\n" for name, (_, members) in groups), 0o600),
        }


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _word(text: str) -> str:
    return "" if text == "-" else text


def _path(text: str) -> str:
    return text if text.startswith("/") else ""


def make_users(target: Path) -> None:
    """passwd, group, shadow, gshadow of the image."""
    accounts = Accounts()
    masters = target / "usr/share/base-passwd"
    accounts.read_masters((masters / "passwd.master").read_text(), (masters / "group.master").read_text())
    # The box's first: their numbers are fixed.
    accounts.read_table(TABLE.read_text(), TABLE.name)
    for path in sorted((target / "usr/lib/sysusers.d").glob("*.conf")):
        accounts.read_sysusers(path.read_text(), path.name)
    accounts.users["root"][5] = "/bin/sh"
    for name, (content, mode) in accounts.files().items():
        path = target / "etc" / name
        path.unlink(missing_ok=True)
        path.touch(mode=mode)
        path.chmod(mode)
        path.write_text(content)
