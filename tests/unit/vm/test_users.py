"""The image's accounts: the box's table, Debian's lists, sysusers.d, with the numbers that files on /data have."""

from __future__ import annotations

import pytest

from vm.errors import VmError
from vm.users import TABLE, Accounts

PASSWD = "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:*:0:\ntty:*:5:\nnogroup:*:65534:\n"


def accounts() -> Accounts:
    made = Accounts()
    made.read_masters(PASSWD, GROUP)
    return made


def test_the_boxes_own_users_have_the_numbers_of_the_table() -> None:
    made = accounts()
    made.read_table(TABLE.read_text(), TABLE.name)
    rows = [line.split() for line in TABLE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(rows) > 5
    for name, uid, group, gid, *_ in rows:
        if name != "-":
            assert made.users[name][1] == uid and made.users[name][2] == str(made.groups[group][0])
            assert made.users[name][5] == "/usr/sbin/nologin"
        if not gid.startswith("-"):
            assert made.groups[group][0] == int(gid)


def test_a_group_may_be_numbered_after_it_has_members() -> None:
    made = accounts()
    made.read_table("a 701 a 701 * - - shared A\n- -1 shared 720 * - - - S\n", "t")
    assert made.groups["shared"] == (720, ["a"])


@pytest.mark.parametrize(
    ("line", "user", "group"),
    [
        ('u! net 990 "Network" - -', ["x", "990", "990", "Network", "/", "/usr/sbin/nologin"], 990),
        ('u bus - "Bus" /var/run -', ["x", "999", "999", "Bus", "/var/run", "/usr/sbin/nologin"], 999),
        ("u one 12:tty", ["x", "12", "5", "", "/", "/usr/sbin/nologin"], None),
    ],
)
def test_sysusers(line: str, user: list[str], group: int | None) -> None:
    made = accounts()
    made.read_sysusers(f"# comment\n{line}\n", "t")
    name = line.split()[1]
    assert made.users[name] == user
    assert (made.groups.get(name) or (None,))[0] == group


def test_what_exists_is_left_alone() -> None:
    made = accounts()
    made.read_sysusers('u root 0 "Super User" /root /bin/zsh\ng tty 77\nm root tty\n', "t")
    assert made.users["root"][5] == "/bin/bash" and made.groups["tty"] == (5, ["root"])


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(VmError, match="t:1"):
        accounts().read_sysusers("x whatever", "t")
    with pytest.raises(VmError, match="t:1: 3 fields"):
        accounts().read_table("a 1 b", "t")


def test_nobody_has_a_password() -> None:
    made = accounts()
    made.read_table(TABLE.read_text(), TABLE.name)
    files = made.files()
    assert set(files) == {"passwd", "group", "shadow", "gshadow"} and files["shadow"][1] == 0o600
    assert all(line.split(":")[1] == "!*" for line in files["shadow"][0].splitlines())
    assert len(files["shadow"][0].splitlines()) == len(files["passwd"][0].splitlines()) == len(made.users)
