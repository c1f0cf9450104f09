"""Sandboxes, owners and settings agree: every path that a service writes is open to it, and to it alone.

What systemd and the kernel do at run time is seen on the virtual board; here, that the files do not contradict each
other.
"""

from __future__ import annotations

import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.image.conftest import PACKAGE, Unit, units, users
from vigie.filter import config as filter_config
from vigie.host import boxconfig


@dataclass(frozen=True, slots=True)
class Folder:
    """A line of tmpfiles.d(5) that makes a folder."""

    path: Path
    mode: int
    user: str
    group: str


def folders() -> dict[Path, Folder]:
    """Every folder that the image makes, by path."""
    found = {}
    for name in ("data.conf", "vigie.tmpfiles"):
        for line in (PACKAGE / name).read_text().splitlines():
            words = line.split()
            if words and words[0] == "d":
                found[Path(words[1])] = Folder(Path(words[1]), int(words[2], 8), words[3], words[4])
    return found


def groups_of(user: str) -> set[str]:
    return {group for one in users() if one.name == user for group in (one.group, *one.groups)}


def may_write(user: str, folder: Folder) -> bool:
    if user == folder.user:
        return bool(folder.mode & stat.S_IWUSR)
    if folder.group in groups_of(user):
        return bool(folder.mode & stat.S_IWGRP)
    return bool(folder.mode & stat.S_IWOTH)


def may_enter(user: str, path: Path) -> bool:
    """Whether the folders on the way to a path let a user through (those that the image makes)."""
    made = folders()
    for parent in path.parents:
        folder = made.get(parent)
        if folder is None:
            continue
        bit = stat.S_IXOTH
        if user == folder.user:
            bit = stat.S_IXUSR
        elif folder.group in groups_of(user):
            bit = stat.S_IXGRP
        if not folder.mode & bit:
            return False
    return True


def box(target: Path) -> boxconfig.BoxConfig:
    return boxconfig.parse((target / "etc/vigie/box.yaml").read_text(), "box.yaml")


def written(target: Path) -> dict[str, set[Path]]:
    """Folders that each service writes, as its code and the shipped configuration name them."""
    paths = box(target).paths
    daemon = filter_config.load(target / "etc/vigie/filter.yaml")
    return {
        "vigie-filter": {
            daemon.state_dir, daemon.socket.parent, daemon.base.parent, daemon.image.parent, daemon.journal.path.parent,
        },
        "vigie-enrol": {
            paths.enrol, paths.state / "clock", paths.run_enrol, paths.run_doubt,
            paths.link, paths.update, paths.address,  # emptied by a configuration reset
        },
        "vigie-link": {paths.link, paths.run_link, paths.run_doubt},
        "vigie-update": {paths.update, paths.run_update, paths.run_doubt},
        "vigie-page": {paths.address},
        "vigie-address": {paths.run_address},
    }  # fmt: skip


def test_every_folder_that_a_service_writes_is_made_and_open_to_it(target: Path) -> None:
    made = folders()
    for user, paths in written(target).items():
        unit = Unit(PACKAGE / f"{user}.service")
        writable = [Path(word.lstrip("-")) for word in unit.words("ReadWritePaths")]
        hidden = [Path(word.lstrip("-")) for word in unit.words("InaccessiblePaths")]
        for path in paths:
            assert path in made, f"{path}, written by {user}, is made by nobody"
            assert may_write(user, made[path]), f"{made[path]} is closed to {user}"
            assert may_enter(user, path), f"{user} does not reach {path}"
            assert any(path.is_relative_to(one) for one in writable), f"{user}: ReadWritePaths= lacks {path}"
            assert not any(path.is_relative_to(one) for one in hidden), f"{user}: InaccessiblePaths= hides {path}"


def test_no_service_writes_where_another_one_does(target: Path) -> None:
    """But for what is meant: doubts of the certificate, and what a reset empties."""
    shared = {
        box(target).paths.run_doubt,
        *(getattr(box(target).paths, name) for name in ("link", "update", "address")),
    }
    for user, own in written(target).items():
        for path in own - shared:
            writers = {one for one in written(target) if may_write(one, folders()[path])}
            assert writers == {user}, f"{path} is open to {writers}"


def test_a_sandbox_opens_nothing_that_is_not_written(target: Path) -> None:
    extra = {"vigie-filter": {Path("/sys/fs/bpf")}, "vigie-enrol": {Path("/identity"), Path("/data/vigie")}}
    for user, paths in written(target).items():
        for word in Unit(PACKAGE / f"{user}.service").words("ReadWritePaths"):
            assert Path(word.lstrip("-")) in paths | extra.get(user, set()), f"{user} may write {word} and never does"


def test_what_services_read_of_each_other_is_within_reach(target: Path) -> None:
    paths = box(target).paths
    reads = {
        # status for page and guardian; the box's id and the clock's floor for all who sign or judge time
        paths.enrol / "status.json": {"vigie-page", "vigie-guardian"},
        paths.enrol / "current" / "box.json": {"vigie-filter", "vigie-link"},
        paths.state / "clock" / "floor": {"vigie-filter", "vigie-link", "vigie-update"},
        paths.run_enrol / "clock.json": {"vigie-filter", "vigie-link", "vigie-update"},
        paths.run_address / "address.json": {"vigie-page"},
        paths.address / "request.json": {"vigie-address"},
        paths.link / "settings.json": {"vigie-update"},
        paths.update / "steering.json": {"vigie-link"},
        paths.update / "download" / "base.vgb": {"vigie-filter"},
        paths.run_update / "update.sock": {"vigie-link"},
        # how the firmware stands, for the department; what a new system's health is judged by
        paths.run_update / "firmware.json": {"vigie-link"},
        paths.run_link / "link-status.json": {"vigie-update"},
        paths.filter_socket: {"vigie-link", "vigie-update", "vigie-page"},
        paths.run / "heartbeat.json": {"vigie-guardian", "vigie-update"},
    }
    for path, readers in reads.items():
        for user in readers:
            assert may_enter(user, path), f"{user} does not reach {path}"
            hidden = [Path(word.lstrip("-")) for word in Unit(PACKAGE / f"{user}.service").words("InaccessiblePaths")]
            assert not any(path.is_relative_to(one) for one in hidden), f"{user}: InaccessiblePaths= hides {path}"


def test_the_operational_key_is_for_those_who_speak_to_the_department(target: Path) -> None:
    """It is written 0640 (vigie.enrol.layout) in a folder that hands its group on."""
    folder = folders()[box(target).paths.enrol]
    assert folder.mode & stat.S_ISGID and folder.group == "vigie-keys"
    assert {user.name for user in users() if "vigie-keys" in user.groups} == {
        "vigie-filter", "vigie-enrol", "vigie-link", "vigie-update",
    }  # fmt: skip


def test_the_filters_settings_are_those_of_a_box(target: Path) -> None:
    daemon = filter_config.load(target / "etc/vigie/filter.yaml")
    assert (daemon.ports, daemon.early_loader, daemon.link_user, daemon.socket_group) == (
        None,
        True,
        "vigie-link",
        "vigie",
    )
    paths = box(target).paths
    assert (daemon.trust, daemon.box_state, daemon.run_dir) == (paths.trust, paths.state, paths.run)
    assert daemon.socket == paths.filter_socket
    ports = {port.port for port in daemon.page_ports}
    assert box(target).page.port in ports, "the data path drops what comes to the page"
    early = Unit(PACKAGE / "vigie-early.service").one("ExecStart")
    assert f"--image {daemon.image} --image {daemon.builtin_base.with_suffix('.img')}" in " ".join(early.split())
    assert (target / str(daemon.builtin_base).lstrip("/")).exists()


def test_modes_do_not_undo_the_folders() -> None:
    """A file for a group needs a umask that leaves it to the group."""
    masks = {unit.path.stem: unit.one("UMask") for unit in units()}
    assert masks["vigie-link"] == "0007" and masks["vigie-update"] == masks["vigie-page"] == "0002", (
        "a reset empties them"
    )
    assert masks["vigie-enrol"] == "0022"


@pytest.mark.parametrize("name", ["data.conf", "vigie.tmpfiles"])
def test_tmpfiles_makes_them(name: str, tmp_path: Path) -> None:
    """systemd-tmpfiles itself, below a scratch root with the table's users."""
    (tmp_path / "etc").mkdir()
    table = users()
    passwd = [f"{u.name}:x:{u.uid}:{u.gid}::/:/bin/false" for u in table if u.name != "-"]
    group = [f"{u.group}:x:{u.gid}:" for u in table] + ["systemd-journal:x:190:", "root:x:0:"]
    (tmp_path / "etc/passwd").write_text("\n".join(["root:x:0:0::/root:/bin/sh", *passwd]) + "\n")
    (tmp_path / "etc/group").write_text("\n".join(group) + "\n")
    for folder in ("run", "data"):
        (tmp_path / folder).mkdir()
    for _turn in range(2):  # again at each start
        done = subprocess.run(
            ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(PACKAGE / name)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    ids = {u.group: u.gid for u in table} | {"root": 0, "systemd-journal": 190}
    uids = {u.name: u.uid for u in table} | {"root": 0}
    for line in (PACKAGE / name).read_text().splitlines():
        words = line.split()
        if words and words[0] == "d":
            made = (tmp_path / words[1].lstrip("/")).stat()
            assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (
                int(words[2], 8), uids[words[3]], ids[words[4]],
            ), line  # fmt: skip
