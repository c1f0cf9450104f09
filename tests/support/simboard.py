"""A board on the bench that is not there: eMMC in a file, USB disk in a false sysfs, serial cable of two terminals.

The program behind the cable is the real one (`simboard_program`), started again at each boot as on a board. The cable
can lie: lose bytes, echo, add a kernel's log, be pulled out. Power can be cut when a given question passes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.simboard_program import BITTEN
from vigie_provisioning.factory.image import LABEL, SIGNATURE, ext

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
EMMC = 48 * MIB
P1, P7, P8 = 4 * MIB, 24 * MIB, 28 * MIB
P7_SIZE = 2 * MIB
VERSION = "1.2.3"
KERNEL_LOG = (
    b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd083]\r\n",
    b"[    1.207311] usb usb1: New USB device found, idVendor=1d6b, idProduct=0002\r\n",
    b"\x00\xff\xfe\x80 @VG1< 7 900 00000000 {\r\n",
    b"[    2.018211] EXT4-fs (mmcblk0p7): mounted filesystem with ordered data mode",  # without an end
)


# -- images


def make_image(path: Path, *, version: str = VERSION, fill: int = 7, label: bytes = LABEL) -> str:
    """A small image with the real layout; its SHA-256, which is also written beside it."""
    import hashlib

    data = bytearray(random.Random(fill).randbytes(32 * MIB))
    data[0:512] = _mbr(
        [(P1, 2 * MIB, 0x0C), (6 * MIB, 2 * MIB, 0x0C), (8 * MIB, 2 * MIB, 0x0C), (12 * MIB, 20 * MIB, 5)]
    )
    spans = ((13 * MIB, 4 * MIB), (18 * MIB, 4 * MIB), (P7, P7_SIZE), (P8, 4 * MIB))
    records = [12 * MIB, 17 * MIB, 23 * MIB, 27 * MIB]
    for i, (at, (start, size)) in enumerate(zip(records, spans, strict=True)):
        entries = [(start - at, size, 0x83)]
        if i + 1 < len(records):
            entries.append((records[i + 1] - records[0], MIB, 5))
        data[at : at + 512] = _mbr(entries, signature=0)
    data[P7 : P7 + P7_SIZE] = blank_ext4(label)
    marker = json.dumps({"version": version}).encode()
    data[13 * MIB : 13 * MIB + 4096] = marker + b"\0" * (4096 - len(marker))
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return digest


def blank_ext4(label: bytes = LABEL) -> bytes:
    """As much of an ext4 file system as anybody here looks at: the superblock's label, magic and mounts."""
    data = bytearray(P7_SIZE)
    struct.pack_into("<H", data, 1024 + 56, 0xEF53)
    data[1024 + 120 : 1024 + 120 + len(label)] = label
    return bytes(data)


def _mbr(entries: list[tuple[int, int, int]], signature: int = SIGNATURE) -> bytes:
    sector = bytearray(512)
    struct.pack_into("<I", sector, 440, signature)
    for i, (start, size, kind) in enumerate(entries):
        sector[446 + 16 * i + 4] = kind
        struct.pack_into("<II", sector, 446 + 16 * i + 8, start // 512, size // 512)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


# -- the machine that the station runs on


class Bench:
    """The station's machine: false sysfs, devices and proc, shared by the boards that are plugged in."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.dev, self.proc = folder / "sys", folder / "dev", folder / "proc"
        for path in (self.sys / "block", self.sys / "bus/usb/devices", self.dev, self.proc / "self"):
            path.mkdir(parents=True)
        self.mounts([])
        (self.proc / "swaps").write_text("Filename Type Size Used Priority\n")

    def mounts(self, lines: list[str]) -> None:
        """What is mounted: `major:minor point`."""
        text = "22 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n"
        for i, line in enumerate(lines):
            number, point = line.split()
            text += f"{30 + i} 1 {number} / {point} rw - ext4 x rw\n"
        (self.proc / "self/mountinfo").write_text(text)

    def plug(self, emmc: Path, chip: str, place: str, name: str, **changes: str) -> None:
        """An eMMC over USB, as the Linux gadget shows it. changes: other contents of its files."""
        usb = self.sys / "devices/pci0000:00/usb1" / place
        disk = usb / f"{place}:1.0/host0/target0:0:0/0:0:0:0/block" / name
        scsi = disk.parents[1]
        disk.mkdir(parents=True)
        number = f"8:{16 * (ord(name[-1]) - 97)}"
        files = {
            usb / "idVendor": "0a5c",
            usb / "idProduct": "0104",
            usb / "serial": f"10000000{chip}",
            scsi / "vendor": "mmcblk0 ",
            disk / "size": str(EMMC // 512),
            disk / "ro": "0",
            disk / "dev": number,
        }
        for path, text in files.items():
            path.write_text(changes.get(path.name, text) + "\n")
        (disk / "holders").mkdir()
        part = disk / f"{name}1"
        part.mkdir()
        (part / "partition").write_text("1\n")
        (part / "dev").write_text(f"8:{int(number[2:]) + 1}\n")
        (disk / "device").symlink_to(scsi)
        (self.sys / "block" / name).symlink_to(disk)
        (self.sys / "bus/usb/devices" / place).symlink_to(usb)
        (self.dev / name).symlink_to(emmc)

    def unplug(self, place: str, name: str) -> None:
        """Gone."""
        (self.sys / "block" / name).unlink(missing_ok=True)
        (self.sys / "bus/usb/devices" / place).unlink(missing_ok=True)
        (self.dev / name).unlink(missing_ok=True)
        shutil.rmtree(self.sys / "devices/pci0000:00/usb1" / place, ignore_errors=True)


# -- the cable


@dataclass
class Cable:
    """What is wrong with it. lose: probability that a chunk loses a byte; garbage: probability that a chunk is preceded
    by noise; echo: the board's terminal repeats what it hears. cut_at: (text, after): power is cut when a question that
    holds `text` passes, before the board hears it, or after it has answered (and nobody heard that)."""

    lose: float = 0.0
    garbage: float = 0.0
    echo: bool = False
    cut_at: list[tuple[bytes, bool]] = field(default_factory=list)


class SimBoard:
    """A board. `port` is the station's end of its serial cable (a name that outlives unplugging)."""

    def __init__(
        self, folder: Path, bench: Bench, chip: str = "0badcafe", place: str = "1-2", name: str = "sdx"
    ) -> None:
        self.home = folder
        self.bench, self.chip, self.place, self.name = bench, chip, place, name
        for part in ("root", "identity", "data"):
            (folder / part).mkdir(parents=True)
        self.emmc = folder / "emmc.img"
        with self.emmc.open("wb") as stream:
            stream.truncate(EMMC)
        self.port = folder / "ttyUSB0"
        self.cable = Cable()
        self.faults({})
        self.boots: list[str] = []
        self.luck = random.Random(1)
        self._stop = threading.Event()
        self._power = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._station, self._board, self._slave = -1, -1, ""
        self._deaf = False
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._wire, self._life)]
        machine_root(folder / "root", chip)

    @contextmanager
    def on_the_bench(self) -> Iterator[SimBoard]:
        """With its cable plugged in, without power."""
        self._board, slave = _terminal()
        self._slave = os.ttyname(slave)
        os.close(slave)
        self.connect()
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self.off()
            self._power.set()
            for thread in self._threads:
                thread.join(20)
            self.disconnect()
            os.close(self._board)

    # -- what a person does

    def faults(self, faults: dict[str, Any]) -> None:
        """What is broken on the board."""
        (self.home / "faults.json").write_text(json.dumps(faults))

    def to_usb(self, **changes: str) -> None:
        """Jumper on, power: the eMMC shows up as a disk."""
        self.off()
        self.from_usb()
        self.bench.plug(self.emmc, self.chip, self.place, self.name, **changes)

    def from_usb(self) -> None:
        """USB cable out."""
        self.bench.unplug(self.place, self.name)

    def on(self) -> None:
        """Power, without the jumper."""
        self.from_usb()
        _register_reset(self.home / "root", power=True)
        self._power.set()

    def off(self) -> None:
        """Power away, at once."""
        self._power.clear()
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def cycle(self) -> None:
        """Off, and on again."""
        self.off()
        time.sleep(0.05)
        self.on()

    def connect(self) -> None:
        """The serial adapter into the station."""
        self._station, slave = _terminal()
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(os.ttyname(slave))
        os.close(slave)

    def disconnect(self) -> None:
        """The adapter out."""
        self.port.unlink(missing_ok=True)
        station, self._station = self._station, -1
        if station >= 0:
            os.close(station)

    def identity(self, name: str) -> bytes | None:
        """A file of the identity partition."""
        path = self.home / "identity" / name
        return path.read_bytes() if path.exists() else None

    # -- its life

    def _life(self) -> None:
        while not self._stop.is_set():
            self._power.wait()
            if self._stop.is_set():
                return
            if not self._boots():
                time.sleep(0.05)
                continue
            with self._lock:
                if not self._power.is_set():
                    continue
                argv = [sys.executable, "-m", "tests.support.simboard_program", str(self.home), self._slave]
                with (self.home / "stderr").open("ab") as stderr:
                    self._process = subprocess.Popen(argv, cwd=ROOT, stderr=stderr)
            code = self._process.wait()
            _register_reset(self.home / "root", power=code not in (0, BITTEN))

    def _boots(self) -> bool:
        """What happens before the program: boot loader, kernel, mounts. False when the eMMC holds no system."""
        with self.emmc.open("r+b") as disk:
            if disk.read(512)[440:444] != struct.pack("<I", SIGNATURE):
                return False
            disk.seek(13 * MIB)
            marker = disk.read(4096).rstrip(b"\0")
            disk.seek(P7)
            start = disk.read(4096)
            found = ext(lambda at, n: start[at - P7 : at - P7 + n], P7)
            if found is None:
                return False
            if not found.mounted:
                for path in (self.home / "identity").iterdir():
                    path.unlink()
                disk.seek(P7 + 1024 + 44)
                disk.write(struct.pack("<IIH", 1, 1, 1))
        boot = secrets.token_hex(16)
        self.boots.append(boot)
        root = self.home / "root"
        (root / "proc/sys/kernel/random/boot_id").write_text(boot + "\n")
        version = json.loads(marker)["version"]
        (root / "etc/os-release").write_text(f'VERSION_ID="{version}"\nVARIANT_ID=cm4\n')
        for line in KERNEL_LOG:
            self._to_station(line)
        return True

    # -- the wire

    def _wire(self) -> None:
        while not self._stop.is_set():
            station = self._station
            ends = [end for end in (station, self._board) if end >= 0]
            try:
                ready = select.select(ends, [], [], 0.05)[0]
            except (OSError, ValueError):
                continue
            for end in ready:
                try:
                    data = os.read(end, 4096)
                except OSError:
                    time.sleep(0.02)  # nobody holds the other end: the board is off, or the adapter is not open
                    continue
                if end == self._board:
                    self._from_board(data)
                else:
                    self._from_station(data)

    def _from_station(self, data: bytes) -> None:
        if self.cable.cut_at:
            text, after = self.cable.cut_at[0]
            if text in data and after:
                self._deaf = True
            elif text in data:
                self.cable.cut_at.pop(0)
                self.cycle()
                return
        if self.cable.echo:
            self._to_station(data)
        if self._power.is_set():
            with contextlib.suppress(OSError):
                os.write(self._board, self._spoilt(data))

    def _from_board(self, data: bytes) -> None:
        if self._deaf:
            if b'"ok"' in data or b'"no"' in data:
                self._deaf = False
                self.cable.cut_at.pop(0)
                self.cycle()
            return
        self._to_station(data)

    def _to_station(self, data: bytes) -> None:
        if self._station >= 0:
            with contextlib.suppress(OSError):
                os.write(self._station, self._spoilt(data))

    def _spoilt(self, data: bytes) -> bytes:
        if self.luck.random() < self.cable.garbage:
            data = self.luck.choice((*KERNEL_LOG, self.luck.randbytes(60))) + data
        if self.luck.random() < self.cable.lose and data:
            at = self.luck.randrange(len(data))
            data = data[:at] + data[at + 1 :]
        return data


def _terminal() -> tuple[int, int]:
    master, slave = os.openpty()
    tty.setraw(slave, termios.TCSANOW)
    os.set_blocking(master, False)
    return master, slave


def _register_reset(root: Path, *, power: bool) -> None:
    path = root / "proc/device-tree/chosen/bootloader/rsts"
    path.write_bytes(struct.pack(">I", 0x1000 if power else 0x20))


def machine_root(root: Path, chip: str) -> None:
    """The files of a healthy board."""
    files = {
        "proc/device-tree/serial-number": f"10000000{chip}\0",
        "proc/device-tree/chosen/bootloader/rsts": "",
        "proc/sys/kernel/random/boot_id": "",
        "proc/sys/kernel/osrelease": "6.12.41\n",
        "proc/uptime": "21.40 70.11\n",
        "proc/cmdline": "console=ttyAMA0 rauc.slot=A vigie.roothash=aa\n",
        "proc/mounts": "/dev/dm-0 / erofs ro 0 0\n/dev/mmcblk0p7 /identity ext4 rw\n/dev/mmcblk0p8 /data ext4 rw\n",
        "etc/os-release": "",
        "etc/vigie/guardian.json": json.dumps(
            {
                "leds": [
                    {"lamps": ["power"], "colours": {"green": "ACT"}},
                    {"lamps": ["line"], "colours": {"red": "PWR"}},
                ],
                "button": {"key": 360},
            }
        ),
        "run/vigie-early.json": json.dumps(
            {
                "early": {
                    "base": True,
                    "serial": 3,
                    "fresh": True,
                    "forward_ms": 31.0,
                    "ports": ["eth0", "eth1"],
                    "at": 4.1,
                }
            }
        ),
        "run/vigie/heartbeat.json": json.dumps({"at": 21.0, "base": 3, "attached": True, "loop": False}),
        "sys/class/thermal/thermal_zone0/temp": "48300\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
        "sys/block/mmcblk0/size": "15269888\n",
        "sys/block/mmcblk0/device/name": "BJTD4R\n",
        "sys/block/mmcblk0/device/life_time": "0x01 0x01\n",
        "sys/block/mmcblk0/device/pre_eol_info": "0x01\n",
    }
    for number, name in enumerate(("eth0", "eth1")):
        base = f"sys/class/net/{name}"
        files |= {
            f"{base}/type": "1\n",
            f"{base}/carrier": "1\n",
            f"{base}/speed": "1000\n",
            f"{base}/address": f"d8:3a:dd:00:00:0{number}\n",
            f"{base}/device/uevent": "\n",
        }
        files[f"sys/class/net/br0/brif/{name}/state"] = "3\n"
    for name in ("ACT", "PWR"):
        files |= {f"sys/class/leds/{name}/{file}": "0\n" for file in ("brightness", "trigger")}
        files[f"sys/class/leds/{name}/max_brightness"] = "1\n"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
