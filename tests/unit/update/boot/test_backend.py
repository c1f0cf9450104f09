"""`python3 -m vigie.update.boot` over real files: what RAUC and the updater ask, partition 1 in an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.pi_disk import SELECT, command, file_system
from tests.support.uboot_board import COPY, packed
from vigie.update.boot import Cause, Outcome, Places, autoboot, fat, read
from vigie.update.boot.__main__ import main
from vigie.update.boot.opening import cause
from vigie.update.boot.storage import SECTOR, Disk
from vigie.update.boot.tryboot import Tryboot

Ask = Callable[..., int]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A CM4 that runs and has committed A."""
    names = {name: tmp_path / name for name in ("state", "select", "config", "cmdline", "said", "guardian", "boot_id")}
    names["select"].write_bytes(file_system(SELECT[1], 16, {"autoboot.txt": autoboot.text("A")}))
    names["cmdline"].write_text("quiet rauc.slot=A ro\n")
    names["boot_id"].write_text("1234\n")
    return Places(**names)


@pytest.fixture
def ask(places: Places) -> Ask:
    return lambda *argv: main(argv, places, _no_restart)


def _no_restart(argv: Sequence[str]) -> None:
    raise AssertionError(f"restarts: {argv}")


def content(places: Places) -> bytes:
    return command(["mcopy", "-n", "-i", str(places.select), "::autoboot.txt", "-"])


def runs(places: Places, slot: str) -> None:
    places.cmdline.write_text(f"quiet rauc.slot={slot} ro\n")


def test_an_update_as_rauc_and_the_updater_drive_it(
    ask: Ask, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("start") == 0 and ask("settled") == 0
    assert ask("set-state", "B", "bad") == 0
    assert ask("set-primary", "B") == 0
    capsys.readouterr()
    assert ask("get-primary") == ask("get-state", "A") == ask("get-state", "B") == ask("get-current") == 0
    assert capsys.readouterr().out == "B\ngood\ngood\nA\n", "the staged slot, or RAUC would overwrite it"
    assert content(places) == autoboot.text("A"), "nothing that the firmware reads has changed"
    restarts: list[Sequence[str]] = []
    assert main(["restart", "trial"], places, restarts.append) == 0
    assert restarts == [["systemctl", "reboot", "--reboot-argument=0 tryboot"]]
    runs(places, "B")
    assert ask("start") == 0 and ask("settled") == 1
    said = read(places)
    assert said and (said.current, said.committed, said.trial, said.outcome) == ("B", "A", "B", Outcome.ON_TRIAL)
    assert ask("set-state", "B", "good") == 0
    assert content(places) == autoboot.text("B")
    said = read(places)
    assert said and (said.committed, said.trial) == ("B", None) and ask("settled") == 0


def test_a_slot_that_finds_itself_bad(ask: Ask, places: Places) -> None:
    assert ask("set-primary", "B") == main(["restart", "trial"], places, lambda argv: None) == 0
    runs(places, "B")
    assert ask("start") == ask("set-state", "B", "bad") == 0
    restarts: list[Sequence[str]] = []
    assert main(["restart", "back"], places, restarts.append) == 0
    assert list(restarts[0]) == ["systemctl", "reboot"]
    runs(places, "A")
    assert ask("start") == 0
    said = read(places)
    assert said and (said.current, said.committed, said.trial, said.failed) == ("A", "A", None, "B")


def test_the_committed_slot_is_not_called_bad_from_a_trial(ask: Ask, places: Places) -> None:
    ask("set-primary", "B")
    runs(places, "B")
    assert ask("set-state", "A", "bad") == 1
    assert ask("set-primary", "A") == 0, "the trial is given up"
    said = read(places)
    assert said and said.trial is None and content(places) == autoboot.text("A")


def test_no_trial_to_restart_into(ask: Ask, places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("restart", "trial") == 1
    assert "install a bundle first" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [(), ("set-primary", "C"), ("set-state", "A", "ugly"), ("get-state",), ("boot",)])
def test_nonsense_is_refused_and_changes_nothing(
    ask: Ask, places: Places, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(*argv) == 2 and capsys.readouterr().err
    assert not places.state.exists() and read(places) is None


def test_without_a_slot_on_the_command_line(ask: Ask, places: Places) -> None:
    places.cmdline.write_text("quiet\n")
    assert ask("get-current") == 1


def test_notes_that_a_cut_spoilt_count_as_none(ask: Ask, places: Places) -> None:
    ask("set-primary", "B")
    for spoilt in (b"", b'{"trial": {"slot"', b'{"v":1,"trial":{"slot":"C"},"bad":[],"failed":null}', b"[" * 70000):
        (places.state / "notes.json").write_bytes(spoilt)
        assert ask("show") == 0
        said = read(places)
        assert said and said.trial is None


def test_why_the_start_happened_is_of_this_start(places: Places) -> None:
    assert cause(places) is Cause.UNKNOWN
    for boot, reason, answer in (
        ("1234", "panic", Cause.PANIC),
        ("1233", "panic", Cause.UNKNOWN),
        ("1234", "first", Cause.UNKNOWN),
    ):
        places.guardian.write_text(json.dumps({"boot": boot, "reason": reason}))
        assert cause(places) is answer


def test_uboot_by_its_configuration(ask: Ask, places: Places, tmp_path: Path) -> None:
    """The same words on the virtual board, over fw_setenv."""
    environment = tmp_path / "environment"
    environment.write_bytes(packed({"BOOT_ORDER": "A B", "BOOT_A_LEFT": "2", "BOOT_B_LEFT": "3"}, 0) * 2)
    places.config.write_text(f"{environment} 0x0 {COPY:#x}\n{environment} {COPY:#x} {COPY:#x}\n")
    assert ask("set-state", "B", "bad") == ask("set-primary", "B") == 0
    restarts: list[Sequence[str]] = []
    assert main(["restart", "trial"], places, restarts.append) == 0
    assert list(restarts[0]) == ["systemctl", "reboot"]
    said = command(["fw_printenv", "-c", str(places.config)]).decode().split()
    assert {"BOOT_B_LEFT=1", "BOOT_A_LEFT=3"} <= set(said) and "BOOT_ORDER=B" in said
    assert content(places) == autoboot.text("A"), "partition 1 is not touched there"


# -- partition 1 -----------------------------------------------------------------------------------------------------


def damage(select: Path, offset: int, data: bytes) -> None:
    with select.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("place", [0, 4 * SECTOR, 36 * SECTOR, 68 * SECTOR, 100 * SECTOR])
def test_a_damaged_partition_is_made_anew(places: Places, place: int) -> None:
    """First sector, tables, folder, content: the firmware falls to A, a commit puts everything right."""
    tryboot = Tryboot(places.select, Disk())
    tryboot.commit("B", fallback=True)
    damage(places.select, place, b"\xa5" * 4096)
    if place in (0, 68 * SECTOR, 100 * SECTOR):
        assert tryboot.committed("B") == "A"
    tryboot.commit("B", fallback=True)
    assert tryboot.committed("B") == "B" and content(places) == autoboot.text("B")
    command(["fsck.fat", "-n", str(places.select)])


def test_a_commit_changes_two_bytes_of_one_sector(places: Places) -> None:
    before = places.select.read_bytes()
    Tryboot(places.select, Disk()).commit("B", fallback=True)
    after = places.select.read_bytes()
    (place,) = [at for at in range(0, len(before), SECTOR) if before[at : at + SECTOR] != after[at : at + SECTOR]]
    assert sum(old != new for old, new in zip(before[place:][:SECTOR], after[place:][:SECTOR], strict=True)) == 2
    stamp = places.select.stat().st_mtime_ns
    Tryboot(places.select, Disk()).commit("B", fallback=True)
    assert places.select.stat().st_mtime_ns == stamp, "what is right is not written again"


def test_a_longer_file_keeps_its_length(tmp_path: Path) -> None:
    """As somebody may have edited it by hand."""
    select = tmp_path / "select"
    text = autoboot.text("A") + b"# by hand\n"
    select.write_bytes(file_system(SELECT[1], 16, {"autoboot.txt": text}))
    tryboot = Tryboot(select, Disk())
    tryboot.commit("B", fallback=True)
    found = command(["mcopy", "-n", "-i", str(select), "::autoboot.txt", "-"])
    assert len(found) == len(text) and autoboot.ordinary(found) == "B" and found.startswith(autoboot.text("B"))


def test_layout(repo_root: Path) -> None:
    """Numbers that the image's script has too."""
    lines = (repo_root / "board/common/layout.sh").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert {"A": int(said["BOOT_PART_A"]), "B": int(said["BOOT_PART_B"])} == autoboot.PARTITIONS
    assert int(said["SELECT_MIB"]) << 20 == fat.SECTORS * SECTOR == SELECT[1]
    assert said["PARTUUID_PREFIX"] + "-01" == Places().select.name
    assert (repo_root / "board/cm4/autoboot.txt").read_bytes() == autoboot.text("A")
