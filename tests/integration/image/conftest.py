"""A disk of a box in a file, behind a loop device: the partitions of board/common, smaller."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STORAGE = Path(__file__).parents[3] / "package" / "vigie" / "vigie-storage"
DISK_ID = "76696769"
SECTORS = 131_072  # 64 MiB
TABLE = f"""label: dos
label-id: 0x{DISK_ID}
start=8192, size=2048, type=e
size=2048, type=c
size=2048, type=c
type=5, size=50000
size=2048, type=83
size=2048, type=83
size=8192, type=83
size=20480, type=83
"""


def run(*words: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Programs that were killed let go of the disk a moment later."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waiting for {what} took more than {seconds} s"
        time.sleep(0.02)


class Disk:
    """The file, plugged in or not; a new `plug` is what a restart sees."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "disk.img"
        self.links = folder / "by-partuuid"
        self.run = folder / "run"
        self.loop = ""
        for made in (self.links, self.run):
            made.mkdir()
        with self.file.open("wb") as disk:
            disk.truncate(SECTORS * 512)
        run("sfdisk", "--quiet", str(self.file), text=TABLE)

    def plug(self) -> None:
        self.loop = run("losetup", "--find", "--show", str(self.file)).stdout.strip()
        run("partx", "--delete", self.loop, check=False)  # what a test that was killed left behind
        run("partx", "--add", self.loop)
        for number in (7, 8):
            link = self.links / f"{DISK_ID}-{number:02}"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{self.loop}p{number}")

    def unplug(self) -> None:
        if self.loop:
            wait_until(lambda: run("partx", "--delete", self.loop, check=False).returncode == 0, "the partitions to go")
            run("losetup", "--detach", self.loop)
            self.loop = ""

    def part(self, number: int) -> str:
        return f"{self.loop}p{number}"

    def table(self) -> dict[int, tuple[int, int]]:
        """(first sector, sectors) by number, as the disk says."""
        found = {}
        for line in run("sfdisk", "--dump", str(self.file)).stdout.splitlines():
            if ": start=" in line:
                name, _, rest = line.partition(" : ")
                values = dict(word.strip().split("=") for word in rest.split(",") if "=" in word)
                found[int(name.removeprefix(str(self.file)))] = (int(values["start"]), int(values["size"]))
        return found

    def storage(self, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """vigie-storage, in a session of its own (what cuts the power kills all of it)."""
        return subprocess.run(
            [str(STORAGE), what], capture_output=True, text=True, check=False, timeout=120, start_new_session=True,
            env=os.environ | {"VIGIE_DISKS": str(self.links), "VIGIE_RUN": str(self.run)} | environment,
        )  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Plugged in; both partitions blank."""
    made = Disk(tmp_path)
    made.plug()
    yield made
    made.unplug()
