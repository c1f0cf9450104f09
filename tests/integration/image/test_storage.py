"""/data grows to the disk at the first start, comes back after every cut, and a box without it goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.integration.image.conftest import SECTORS, Disk, run

pytestmark = pytest.mark.integration

CUT = """#!/bin/sh
# {name}, and the power goes at the chosen call: before it, or right after.
n=$(($(cat {count}) + 1))
echo $n > {count}
[ $n = {before} ] && kill -KILL 0
{real} "$@"
code=$?
[ $n = {after} ] && kill -KILL 0
exit $code
"""
CUT_AT = ("sfdisk", "partx", "e2fsck", "mkfs.ext4")


def cutting(folder: Path, before: int, after: int) -> dict[str, str]:
    """A PATH whose disk programs count their calls and cut the power at one of them."""
    shims = folder / f"shims-{before}-{after}"
    shims.mkdir()
    count = shims / "count"
    count.write_text("0\n")
    for name in CUT_AT:
        shim = shims / name
        shim.write_text(CUT.format(name=name, count=count, real=shutil.which(name), before=before, after=after))
        shim.chmod(0o755)
    return {"PATH": f"{shims}:{os.environ['PATH']}"}


def format_data(disk: Disk) -> None:
    """As the flashed image has it: formatted to its first, small size, with something on it."""
    run("mkfs.ext4", "-q", "-L", "vigie-data", disk.part(8))
    with_file(disk, write="kept")


def with_file(disk: Disk, write: str | None = None) -> str:
    """Mounts /data, writes or reads its one file."""
    folder = disk.run / "mounted"
    folder.mkdir(exist_ok=True)
    run("mount", disk.part(8), str(folder))
    try:
        if write is not None:
            (folder / "file").write_text(write)
        return (folder / "file").read_text()
    finally:
        run("umount", str(folder))


def assert_grown(disk: Disk, others: dict[int, tuple[int, int]]) -> None:
    table = disk.table()
    assert sum(table[8]) == SECTORS and sum(table[4]) == SECTORS, table
    assert {n: table[n] for n in (1, 2, 3, 5, 6, 7)} == {n: others[n] for n in (1, 2, 3, 5, 6, 7)}
    assert table[8][0] == others[8][0]
    assert "label-id: 0x76696769" in run("sfdisk", "--dump", str(disk.file)).stdout, (
        "root and mounts name the disk by it"
    )
    assert run("e2fsck", "-fn", disk.part(8), check=False).returncode == 0


def test_the_partition_grows_to_the_end_and_nothing_is_lost(disk: Disk) -> None:
    before = disk.table()
    format_data(disk)
    done = disk.storage("prepare")
    assert done.returncode == 0, done.stderr
    assert "grown" in done.stderr
    assert_grown(disk, before)
    size = int(Path(f"/sys/class/block/{disk.part(8).removeprefix('/dev/')}/size").read_text())
    assert size == disk.table()[8][1], "the kernel knows it without a restart"
    assert with_file(disk) == "kept"
    again = disk.storage("prepare")
    assert again.returncode == 0 and "grown" not in again.stderr


@pytest.mark.parametrize("volatile", [False, True])
def test_only_a_disk_is_extended(disk: Disk, tmp_path: Path, volatile: bool) -> None:
    """The kernel's part, which needs CAP_SYS_RESOURCE, is seen on the virtual board: /data has the disk's size."""
    shims = tmp_path / "resize"
    shims.mkdir()
    (shims / "resize2fs").write_text(f'#!/bin/sh\necho "$*" > {shims}/asked\n')
    (shims / "resize2fs").chmod(0o755)
    (disk.run / "vigie").mkdir()
    (disk.run / "vigie/storage.json").write_text(json.dumps({"volatile": volatile, "reason": ""}) + "\n")
    done = disk.storage("extend", PATH=f"{shims}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    asked = (shims / "asked").read_text().split() if (shims / "asked").exists() else []
    assert asked == ([] if volatile else [str(disk.links / "76696769-08")])


def test_a_blank_partition_is_formatted_and_a_strange_one_is_not(disk: Disk) -> None:
    assert disk.storage("prepare").returncode == 0
    assert run("blkid", "-p", "-o", "value", "-s", "LABEL", disk.part(8)).stdout.strip() == "vigie-data"
    run("wipefs", "-aq", disk.part(8))
    run("mkfs.vfat", disk.part(8))
    done = disk.storage("prepare")
    assert done.returncode == 1
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", disk.part(8)).stdout.strip() == "vfat", "somebody's data"


@pytest.mark.slow
@pytest.mark.parametrize("formatted", [True, False])
def test_the_power_may_go_at_every_step(disk: Disk, tmp_path: Path, formatted: bool) -> None:
    before = disk.table()
    clean = tmp_path / "clean.img"
    if formatted:
        format_data(disk)
    disk.unplug()
    shutil.copy(disk.file, clean)
    step, cuts = 0, 0
    while True:
        step += 1
        ended = []
        for turn, words in enumerate(((step, 0), (0, step))):
            disk.unplug()
            shutil.copy(clean, disk.file)
            disk.plug()
            done = disk.storage("prepare", **cutting(tmp_path, *words))
            ended.append(done.returncode == 0)
            cuts += not ended[turn]
            disk.unplug()
            disk.plug()
            done = disk.storage("prepare")
            assert done.returncode == 0, f"cut at {words}: {done.stderr}"
            assert_grown(disk, before)
            if formatted:
                assert with_file(disk) == "kept", f"cut at {words}"
        if all(ended):
            break
    assert cuts >= 8, f"only {cuts} cuts: the shims are not called"


def spoil(disk: Disk) -> None:
    """Damage that the quick check leaves alone and the long one repairs."""
    run("debugfs", "-w", "-R", "set_inode_field file mode 0", disk.part(8))
    run("debugfs", "-w", "-R", "set_super_value state 2", disk.part(8))


def test_a_long_check_is_left_for_later(disk: Disk) -> None:
    format_data(disk)
    assert disk.storage("prepare").returncode == 0
    spoil(disk)
    done = disk.storage("prepare")
    assert done.returncode == 1
    assert "waits until the line is up" in done.stderr


def systemctl(folder: Path, active: bool, start: int = 0) -> tuple[dict[str, str], Path]:
    """A systemctl that writes down what it is asked: only what vigie-storage asks for is looked at."""
    shims = folder / "systemctl-shims"
    shims.mkdir()
    log = shims / "log"
    shim = shims / "systemctl"
    shim.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\ncase "$*" in *is-active*) exit {0 if active else 3} ;; '
        f'"start data.mount") exit {start} ;; esac\n'
    )
    shim.chmod(0o755)
    return {"PATH": f"{shims}:{os.environ['PATH']}"}, log


JOURNAL_AFTER_ALL = "--no-block start systemd-journal-flush.service"


def told(disk: Disk) -> dict[str, object]:
    found: dict[str, object] = json.loads((disk.run / "vigie/storage.json").read_text())
    return found


def test_a_mounted_disk_is_told(disk: Disk, tmp_path: Path) -> None:
    environment, _log = systemctl(tmp_path, active=True)
    assert disk.storage("settle", VIGIE_DATA_MOUNT=str(tmp_path), **environment).returncode == 0
    assert told(disk) == {"volatile": False, "reason": ""}


def test_the_long_check_repairs_and_mounts(disk: Disk, tmp_path: Path) -> None:
    format_data(disk)
    spoil(disk)
    environment, log = systemctl(tmp_path, active=False)
    done = disk.storage("settle", **environment)
    assert done.returncode == 0, done.stderr
    assert told(disk) == {"volatile": False, "reason": ""}
    assert log.read_text().splitlines()[-2:] == ["start data.mount", JOURNAL_AFTER_ALL]
    assert run("e2fsck", "-fn", disk.part(8), check=False).returncode == 0


@pytest.mark.parametrize("reason", ["missing", "damaged", "read-only"])
def test_without_a_disk_the_box_goes_on_in_memory_and_says_so(disk: Disk, tmp_path: Path, reason: str) -> None:
    environment, log = systemctl(tmp_path, active=reason == "read-only")
    if reason == "missing":
        (disk.links / "76696769-08").unlink()
    if reason == "damaged":
        run("mkfs.vfat", disk.part(8))  # nothing that a check could repair
    done = disk.storage("settle", VIGIE_DATA_MOUNT=str(tmp_path / "absent"), **environment)
    assert done.returncode == 0, done.stderr
    assert told(disk) == {"volatile": True, "reason": reason}
    unit = (disk.run / "systemd/system/data.mount").read_text()
    assert "Where=/data" in unit and "Type=tmpfs" in unit
    asked = log.read_text().splitlines()
    mounted = ["stop data.mount", "daemon-reload", "reset-failed data.mount", "start data.mount"]
    # systemd gave the journal's mount up together with /data; without any disk, starting it fails vigie-disk once more.
    assert asked[asked.index(mounted[0]) :] == mounted + ([] if reason == "missing" else [JOURNAL_AFTER_ALL])


def test_a_machine_without_the_disk_says_so_at_once(disk: Disk, tmp_path: Path) -> None:
    for link in disk.links.iterdir():
        link.unlink()
    shims = tmp_path / "udev"
    shims.mkdir()
    (shims / "udevadm").write_text("#!/bin/sh\nexit 0\n")
    (shims / "udevadm").chmod(0o755)
    done = disk.storage("present", PATH=f"{shims}:{os.environ['PATH']}")
    assert done.returncode == 1 and "no disk of Vigie" in done.stderr


def test_the_disk_is_there(disk: Disk) -> None:
    assert disk.storage("present").returncode == 0
