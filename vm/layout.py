"""Where things lie on the disk: the shell constants of board/common/layout.sh, and the table of a real image."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vm.errors import VmError
from vm.tools import ROOT, run

SOURCE = ROOT / "board" / "common" / "layout.sh"
SECTOR = 512
ASSIGNMENT = re.compile(r'^([A-Z_]+)="?([^"\n]*)"?$', re.MULTILINE)


def constants(text: str | None = None) -> dict[str, str]:
    """Name -> value."""
    return dict(ASSIGNMENT.findall(SOURCE.read_text() if text is None else text))


def number(name: str) -> int:
    """One of the constants."""
    return int(constants()[name], 0)


@dataclass(frozen=True, slots=True)
class Partition:
    """In bytes."""

    number: int
    start: int
    size: int
    kind: str


def partitions(disk: Path) -> dict[int, Partition]:
    """Number -> partition, as the table of that disk has it. Raises VmError when it is not one of ours."""
    table = json.loads(run(["sfdisk", "--json", disk]))["partitiontable"]
    if table["label"] != "dos" or int(table["id"], 16) != number("DISK_SIGNATURE"):
        raise VmError(f"{disk}: not a Vigie disk: {table['label']} {table['id']}")
    found = {}
    for row in table["partitions"]:
        index = int(re.sub(r".*?(\d+)$", r"\1", row["node"]))
        found[index] = Partition(index, row["start"] * SECTOR, row["size"] * SECTOR, row["type"])
    return found


def read(disk: Path, partition: Partition, length: int, offset: int = 0) -> bytes:
    """Bytes of that partition."""
    with disk.open("rb") as file:
        file.seek(partition.start + offset)
        return file.read(length)


def write(disk: Path, partition: Partition, data: bytes, offset: int = 0) -> None:
    """Into that partition, never beyond it."""
    if offset + len(data) > partition.size:
        raise VmError(f"{len(data)} bytes at {offset} do not fit into partition {partition.number}")
    with disk.open("r+b") as file:
        file.seek(partition.start + offset)
        file.write(data)


def put_file_system(disk: Path, partition: Partition, folder: Path, label: str, work: Path) -> None:
    """A fresh ext4 with the files of `folder`, in place of what is in that partition."""
    image = work / f"{label}.ext4"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(partition.size)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", label, "-d", folder, image])
    with image.open("rb") as source, disk.open("r+b") as target:
        target.seek(partition.start)
        while block := source.read(1 << 20):
            target.write(block)
    image.unlink()
