"""What may be written, onto what, and how it is written."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simboard import EMMC, MIB, P7, P7_SIZE, Bench, blank_ext4, make_image
from vigie_provisioning.factory import flash
from vigie_provisioning.factory.disks import Disk, DiskError, Disks
from vigie_provisioning.factory.flash import Device, ReadBackError, Unplugged
from vigie_provisioning.factory.image import CHUNK, Image, ImageError, check, ext, partitions

pytestmark = pytest.mark.slow  # images of 32 MiB are made, written and read back


def quiet(phase: str, done: int, of: int) -> None:
    pass


def checked(path: Path, digest: str = "") -> Image:
    return check(path, lambda done, of: None, digest=digest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vigie-cm4-1.2.3.img"
    make_image(path)
    return path


# -- images


def test_an_image_of_ours(path: Path) -> None:
    image = checked(path)
    assert (image.size, image.variant, image.version) == (32 * MIB, "cm4", "1.2.3")
    assert (image.identity.start, image.identity.length) == (P7, P7_SIZE)
    (path.parent / "SHA256SUMS").write_text(f"{'0' * 64}  other.img\n{image.digest} *{path.name}\n")
    path.with_name(path.name + ".sha256").unlink()
    assert checked(path) == image
    short = path.rename(path.with_name("vigie-cm4.img"))
    assert (checked(short, image.digest).variant, checked(short, image.digest).version) == ("cm4", "")


def spoil(at: int, data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(data)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (spoil(20 * MIB, b"x"), "it was damaged or changed"),
        (spoil(440, b"abcd"), "another disk signature"),
        (spoil(510, b"\0\0"), "another disk signature"),
        (lambda p: os.truncate(p, 26 * MIB), "cut short"),
        (lambda p: os.truncate(p, 20 * MIB), "cut short"),
        (lambda p: os.truncate(p, 0), "not a disk image"),
        (lambda p: os.truncate(p, 1000), "not a disk image"),
        (spoil(P7 + 1024 + 120, b"vigie-data\0\0\0\0"), "not the identity partition"),
        (spoil(P7 + 1024 + 56, b"\0\0"), "not the identity partition"),
        (spoil(P7 + 1024 + 52, b"\1"), "mounted before"),
        (lambda p: p.with_name(p.name + ".sha256").unlink(), "no digest beside it"),
        (lambda p: p.unlink(), "cannot be read"),
    ],
)
def test_images_that_are_refused(path: Path, change: Callable[[Path], None], match: str) -> None:
    change(path)
    with pytest.raises(ImageError, match=match):
        checked(path)


def test_another_digest_was_asked_for(path: Path) -> None:
    with pytest.raises(ImageError, match="was published"):
        checked(path, "0" * 64)


@given(st.binary(min_size=0, max_size=2048))
def test_any_bytes_as_a_disk(data: bytes) -> None:
    def read(at: int, n: int) -> bytes:
        return data[at : at + n]

    signed = data[:440].ljust(440, b"\0") + struct.pack("<I", 0x76696769) + data[444:510].ljust(66, b"\0") + b"\x55\xaa"
    for disk in (data, signed + data):
        partitions(lambda at, n, disk=disk: disk[at : at + n])  # type: ignore[misc]
    ext(read, 0)


# -- disks


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "machine")


@pytest.fixture
def emmc(tmp_path: Path) -> Path:
    emmc = tmp_path / "emmc"
    with emmc.open("wb") as stream:
        stream.truncate(EMMC)
    return emmc


def disks(bench: Bench) -> Disks:
    return Disks(bench.sys, bench.dev, bench.proc, any_file=True)


def test_the_emmc_is_found(bench: Bench, emmc: Path) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx")
    (disk,) = disks(bench).gadgets()
    assert (disk.name, disk.chip, disk.usb, disk.size) == ("sdx", "0badcafe", "1-2", EMMC)
    assert disks(bench).gadgets("1-3") == []
    disks(bench).prove(disk, 32 * MIB)
    fd = disks(bench).open(disk)
    os.close(fd)
    with pytest.raises(DiskError, match="not a block device"):
        Disks(bench.sys, bench.dev, bench.proc).open(disk)


def test_the_older_gadget_too(bench: Bench, emmc: Path) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx", idProduct="0001", vendor="RPi-MSD-", serial="0BADCAFE")
    assert [disk.chip for disk in disks(bench).gadgets()] == ["0badcafe"]


@pytest.mark.parametrize(
    "changes",
    [
        {"idVendor": "0781"},
        {"idProduct": "0102"},
        {"vendor": "nvme0n1 "},
        {"vendor": "SanDisk "},
        {"idProduct": "0001"},
        {"serial": "not hex"},
        {"size": "0"},
    ],
)
def test_other_disks_are_not_even_seen(bench: Bench, emmc: Path, changes: dict[str, str]) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx", **changes)
    assert disks(bench).gadgets() == []


def test_a_board_before_rpiboot(bench: Bench, emmc: Path) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx", idProduct="2711", vendor="x")
    assert disks(bench).boot_roms() == ["1-2"]
    assert disks(bench).boot_roms("1-3") == []
    assert disks(bench).gadgets() == []


def refuse(bench: Bench, disk: Disk, match: str, least: int = 32 * MIB) -> None:
    with pytest.raises(DiskError, match=match):
        disks(bench).prove(disk, least)


def test_disks_that_may_not_be_written(bench: Bench, emmc: Path) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx")
    (disk,) = disks(bench).gadgets()
    block = bench.sys / "block/sdx"
    refuse(bench, disk, "between", 64 * MIB)
    bench.mounts([f"{disk.number} /media/x"])
    refuse(bench, disk, "mounted at /media/x")
    bench.mounts([f"8:{int(disk.number[2:]) + 1} /"])
    refuse(bench, disk, "mounted at /")
    bench.mounts([])
    (bench.proc / "swaps").write_text("Filename Type\n/dev/sdx1 partition 1 0 -2\n")
    refuse(bench, disk, "swap space")
    (bench.proc / "swaps").write_text("Filename Type\n")
    (block / "holders/dm-0").mkdir()
    refuse(bench, disk, "in use by dm-0")
    (block / "holders/dm-0").rmdir()
    (block / "ro").write_text("1\n")
    refuse(bench, disk, "read-only")
    (block / "ro").write_text("0\n")
    disks(bench).prove(disk, 32 * MIB)
    (block / "size").write_text(f"{300 * 10**9 // 512}\n")
    refuse(bench, disk, "another disk now")
    (huge,) = disks(bench).gadgets()
    refuse(bench, huge, r"300\.0 GB")
    bench.unplug("1-2", "sdx")
    refuse(bench, disk, "not there any more")


def test_the_name_passed_to_another_disk(bench: Bench, emmc: Path, tmp_path: Path) -> None:
    bench.plug(emmc, "0badcafe", "1-2", "sdx")
    (disk,) = disks(bench).gadgets()
    (tmp_path / "other").write_bytes(b"somebody's thesis")
    (bench.dev / "sdx").unlink()
    (bench.dev / "sdx").symlink_to(tmp_path / "other")
    with pytest.raises(DiskError, match="another size"):
        disks(bench).open(disk)
    (bench.dev / "sdx").unlink()
    (bench.dev / "sdx").symlink_to("/dev/null")
    with pytest.raises(DiskError):
        disks(bench).open(disk)


# -- writing


class Memory:
    """A disk in memory. fail: the n-th write or read raises, or reads wrongly."""

    def __init__(self, size: int = EMMC, start: bytes = b"") -> None:
        self.data = bytearray(start.ljust(size, b"\xee"))
        self.writes: list[tuple[int, int]] = []
        self.short = 0
        self.dead = False
        self.wrong = -1

    def pread(self, n: int, at: int) -> bytes:
        if self.dead:
            raise OSError(19, "No such device")
        data = bytearray(self.data[at : at + n])
        if at <= self.wrong < at + n:
            data[self.wrong - at] ^= 0x80
        return bytes(data)

    def pwrite(self, data: memoryview, at: int) -> int:
        if self.dead:
            raise OSError(19, "No such device")
        n = min(len(data), self.short or len(data))
        self.data[at : at + n] = data[:n]
        self.writes.append((at, n))
        return n

    def sync(self) -> None:
        if self.dead:
            raise OSError(5, "Input/output error")


DISK = Disk("sdx", Path("/dev/sdx"), EMMC, "1-2", "0badcafe", "8:16")


def test_written_and_read_back(path: Path) -> None:
    image, target = checked(path), Memory()
    target.short = 1000_003
    phases: list[str] = []
    kept = flash.write(image, DISK, target, lambda phase, done, of: phases.append(phase))
    assert not kept
    assert target.data[: image.size] == path.read_bytes()
    assert set(target.data[image.size :]) == {0xEE}
    assert list(dict.fromkeys(phases)) == ["write", "verify"]
    first = [i for i, (at, _n) in enumerate(target.writes) if at < CHUNK]
    assert first == list(range(first[0], len(target.writes)))  # the partition table comes last


def test_an_identity_is_kept_to_the_byte(path: Path) -> None:
    image = checked(path)
    used = bytearray(blank_ext4())
    struct.pack_into("<IIH", used, 1024 + 44, 1, 1, 1)
    used[5000:5010] = b"secret key"
    target = Memory()
    target.data[P7 : P7 + P7_SIZE] = used
    assert flash.write(image, DISK, target, quiet)
    assert target.data[P7 : P7 + P7_SIZE] == used
    assert target.data[:P7] == path.read_bytes()[:P7]
    assert target.data[P7 + P7_SIZE : image.size] == path.read_bytes()[P7 + P7_SIZE :]
    assert not flash.write(image, DISK, target, quiet, erase_identity=True)
    assert target.data[: image.size] == path.read_bytes()


def test_an_identity_in_another_place(path: Path, tmp_path: Path) -> None:
    """A disk of another layout whose identity was used: not overwritten by accident."""
    image = checked(path)
    other = bytearray(path.read_bytes())
    moved = 23 * MIB  # where the logical partition's own table is: its identity starts a megabyte later here
    struct.pack_into("<I", other, moved + 446 + 8, 2 * MIB // 512)
    struct.pack_into("<IIH", other, 25 * MIB + 1024 + 44, 1, 1, 1)
    struct.pack_into("<H", other, 25 * MIB + 1024 + 56, 0xEF53)
    with pytest.raises(DiskError, match="in a place where this image has none"):
        flash.write(image, DISK, Memory(start=bytes(other)), quiet)


@pytest.mark.parametrize("at", [1, CHUNK - 1, CHUNK, P7 + 7, P7 + P7_SIZE, 32 * MIB - 1])
def test_a_wrong_byte_is_found_wherever_it_is(path: Path, at: int) -> None:
    target = Memory()
    target.wrong = at
    with pytest.raises(ReadBackError):
        flash.write(checked(path), DISK, target, quiet)


def test_unplugged(path: Path) -> None:
    target = Memory()

    def pull(phase: str, done: int, of: int) -> None:
        target.dead = done > 10 * MIB

    with pytest.raises(Unplugged, match="plug it in again"):
        flash.write(checked(path), DISK, target, pull)
    assert target.data[:512] == b"\xee" * 512


def test_too_small_and_changed_meanwhile(path: Path) -> None:
    image = checked(path)
    with pytest.raises(DiskError, match="too few"):
        flash.write(image, Disk("sdx", Path("x"), MIB, "1", "0badcafe", "8:0"), Memory(), quiet)
    spoil(20 * MIB, b"x")(path)
    target = Memory()
    with pytest.raises(ImageError, match="changed while it was read"):
        flash.write(image, DISK, target, quiet)
    assert target.data[:512] == b"\xee" * 512


def test_a_file_as_a_device(path: Path, emmc: Path) -> None:
    fd = os.open(emmc, os.O_RDWR)
    try:
        flash.write(checked(path), DISK, Device(fd), quiet)
    finally:
        os.close(fd)
    assert emmc.read_bytes()[: 32 * MIB] == path.read_bytes()
