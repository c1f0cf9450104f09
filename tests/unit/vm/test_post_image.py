"""board/common/post-image.sh over real tools: what it writes is read back with others."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.vm.conftest import make_inputs, post_image
from vm import layout
from vm.layout import partitions
from vm.tools import ROOT

pytestmark = pytest.mark.slow
MIB = 1 << 20


def out(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def cut(disk: Path, number: int, to: Path) -> Path:
    """That partition as a file of its own."""
    place = partitions(disk)[number]
    to.write_bytes(layout.read(disk, place, place.size))
    return to


def files(image: Path, folder: Path) -> dict[str, bytes]:
    """Everything on a FAT file system."""
    folder.mkdir()
    out("mcopy", "-s", "-n", "-i", image, "::*", folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_table(built: tuple[str, Path]) -> None:
    board, folder = built
    disk = folder / f"vigie-{board}.img"
    table = partitions(disk)
    names = ("SELECT", "BOOT", "BOOT", "ROOT", "ROOT", "IDENTITY", "DATA")
    assert [table[n].size // MIB for n in (1, 2, 3, 5, 6, 7, 8)] == [layout.number(f"{name}_MIB") for name in names]
    assert [table[n].kind for n in (1, 2, 3, 4, 5, 6, 7, 8)] == ["e", "c", "c", "f", "83", "83", "83", "83"]
    assert table[1].start == layout.number("FIRST_OFFSET_KIB") * 1024
    assert all(place.start % MIB == 0 for place in table.values()), "whole MiB: eMMC erase groups"
    assert table[8].start == max(place.start for place in table.values()), "the one that grows is the last"
    assert table[4].start + table[4].size == table[8].start + table[8].size


def test_both_slots_verify_by_the_root_hash_of_their_command_lines(built: tuple[str, Path], tmp_path: Path) -> None:
    board, folder = built
    said = json.loads((folder / "verity.json").read_text())
    offset = str(said["data_blocks"] * 4096)
    for slot, number in (("A", 5), ("B", 6)):
        line = (folder / f"cmdline-{slot}.txt").read_text()
        assert f"rauc.slot={slot} " in line and line.count("\n") == 1
        match = re.search(r'dm-mod\.create="([^"]+)"', line)
        assert match is not None
        name, uuid, minor, flags, words = match[1].split(",", 4)
        assert (name, uuid, minor, flags) == ("vigie-root", "", "", "ro")
        device = f"PARTUUID=76696769-{number:02d}"
        start, length, kind, version, data, tree, *rest = words.split()
        assert (start, kind, version, data, tree) == ("0", "verity", "1", device, device)
        blocks, first, algorithm, root, salt, count, option = rest[2:]
        assert rest[:2] == ["4096", "4096"] and (algorithm, count, option) == ("sha256", "1", "panic_on_corruption")
        assert int(length) == int(blocks) * 8 and int(first) == int(blocks) + 1, "the superblock comes before the tree"
        assert root == said["root_hash"] and f"vigie.roothash={root}" in line
        assert f"dm-mod.waitfor={device}" in line and "root=/dev/dm-0" in line and " ro" in line
        partition = cut(folder / f"vigie-{board}.img", number, tmp_path / slot)
        out("veritysetup", "verify", f"--hash-offset={offset}", f"--salt={salt}", partition, partition, root)
        spoilt = bytearray(partition.read_bytes())
        spoilt[5000] ^= 1
        partition.write_bytes(spoilt)
        done = subprocess.run(
            ["veritysetup", "verify", f"--hash-offset={offset}", str(partition), str(partition), root],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0, "one changed bit must not verify"


def test_one_boot_image_serves_both_slots(built: tuple[str, Path], tmp_path: Path) -> None:
    board, folder = built
    disk = folder / f"vigie-{board}.img"
    first, second = cut(disk, 2, tmp_path / "p2"), cut(disk, 3, tmp_path / "p3")
    assert first.read_bytes() == second.read_bytes()
    found = files(first, tmp_path / "boot")
    assert found["Image"] == (folder / "Image").read_bytes()
    for slot in "AB":
        assert found[f"cmdline-{slot}.txt"].decode() == (folder / f"cmdline-{slot}.txt").read_text()
    select = files(cut(disk, 1, tmp_path / "p1"), tmp_path / "select")
    if board == "cm4":
        assert list(select) == ["autoboot.txt"], "no firmware there: a damaged p1 must fall to p2"
        assert found["cmdline.txt"] == found["cmdline-A.txt"]
        assert {"start4.elf", "fixup4.dat", "config.txt", "bcm2711-rpi-cm4.dtb"} <= set(found)
        overlays = re.findall(r"^dtoverlay=([\w-]+)", found["config.txt"].decode(), re.MULTILINE)
        assert {f"overlays/{name}.dtbo" for name in overlays} <= set(found)
    else:
        assert list(select) == ["boot.scr"]
        assert found["cmdline-B.env"].decode() == "cmdline=" + (folder / "cmdline-B.txt").read_text()
        assert found["initramfs.img"] == b"initramfs"


def test_the_firmware_tries_the_other_slot(built: tuple[str, Path]) -> None:
    """[all] and [tryboot] name the two boot partitions; each slot's section names its own command line."""
    board, folder = built
    if board != "cm4":
        environment = layout.constants()["UBOOT_ENV_OFFSETS_KIB"].split()
        with (folder / "vigie-qemu.img").open("rb") as disk:
            copies = []
            for offset in environment:
                disk.seek(int(offset) * 1024)
                copies.append(disk.read(layout.number("UBOOT_ENV_KIB") * 1024))
        assert copies[0] == copies[1]
        variables = copies[0][5:].split(b"\0\0")[0].split(b"\0")
        assert variables == [b"BOOT_ORDER=A B", b"BOOT_A_LEFT=3", b"BOOT_B_LEFT=3"]
        return
    root = ROOT / "board/cm4"
    assert (root / "autoboot.txt").read_text().split() == [
        "[all]", "tryboot_a_b=1", "boot_partition=2", "[tryboot]", "boot_partition=3",
    ]  # fmt: skip
    sections = dict(re.findall(r"^\[boot_partition=(\d)\]\n((?:[^\[].*\n)+)", (root / "config.txt").read_text(), re.M))
    assert sections == {
        "2": "cmdline=cmdline-A.txt\nkernel_watchdog_partition=3\n",
        "3": "cmdline=cmdline-B.txt\nkernel_watchdog_partition=2\n",
    }


def test_file_systems_of_the_box(built: tuple[str, Path], tmp_path: Path) -> None:
    board, folder = built
    for number, label in ((7, "vigie-identity"), (8, "vigie-data")):
        image = cut(folder / f"vigie-{board}.img", number, tmp_path / label)
        out("e2fsck", "-fn", image)
        shown = out("dumpe2fs", "-h", image)
        assert re.search(rf"volume name:\s+{label}\n", shown) and re.search(r"Block size:\s+4096\n", shown)
        names = out("debugfs", "-R", "ls /", image).split()
        assert [name for name in names if not name.strip("()").isdigit()] == [".", "..", "lost+found"]


def test_same_input_same_bytes(built: tuple[str, Path], tmp_path: Path) -> None:
    board, folder = built
    make_inputs(tmp_path, board)
    assert post_image(tmp_path, board).returncode == 0
    for name in (f"vigie-{board}.img", "boot.vfat", "rootfs.verity", "verity.json"):
        first, second = (hashlib.sha256((place / name).read_bytes()).hexdigest() for place in (folder, tmp_path))
        assert first == second, name


def test_bundle_carries_what_is_in_the_slots(built: tuple[str, Path], tmp_path: Path) -> None:
    board, folder = built
    manifest = (folder / "bundle/manifest.raucm").read_text()
    assert f"compatible=vigie-{board}\n" in manifest and "format=verity\n" in manifest
    disk = folder / f"vigie-{board}.img"
    rootfs = (folder / "bundle/rootfs.img").read_bytes()
    assert cut(disk, 5, tmp_path / "a").read_bytes()[: len(rootfs)] == rootfs
    assert cut(disk, 2, tmp_path / "b").read_bytes() == (folder / "bundle/boot.vfat").read_bytes()
    assert sorted(path.name for path in (folder / "bundle").iterdir()) == ["boot.vfat", "manifest.raucm", "rootfs.img"]


def test_a_root_file_system_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    make_inputs(tmp_path, "qemu")
    with (tmp_path / "rootfs.erofs").open("ab") as file:
        file.truncate(513 * MIB)
    done = post_image(tmp_path, "qemu")
    assert done.returncode == 1 and "the slot has 512" in done.stderr, done.stderr
    assert not (tmp_path / "vigie-qemu.img").exists()


@pytest.mark.parametrize(
    ("board", "missing", "words"),
    [
        ("cm4", "rpi-firmware/start4.elf", "start4.elf is missing"),
        ("cm4", "bcm2711-rpi-cm4.dtb", "no device tree"),
        ("qemu", "Image", "Image is missing"),
        ("qemu", "rootfs.erofs", "rootfs.erofs"),
    ],
)
def test_a_missing_input_is_named(tmp_path: Path, board: str, missing: str, words: str) -> None:
    make_inputs(tmp_path, board)
    (tmp_path / missing).unlink()
    done = post_image(tmp_path, board)
    assert done.returncode != 0 and words in done.stderr, done.stderr


def test_an_unknown_board_is_refused(tmp_path: Path) -> None:
    done = post_image(tmp_path, "cm5")
    assert done.returncode == 1 and "cm4, qemu or vm" in done.stderr
