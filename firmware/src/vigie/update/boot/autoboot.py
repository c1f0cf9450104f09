"""autoboot.txt: the 512 bytes by which the Raspberry Pi's firmware picks a partition.

https://www.raspberrypi.com/documentation/computers/config_txt.html#autoboot-txt
"""

from __future__ import annotations

from typing import Final

from .chain import Slot, other

PARTITIONS: Final[dict[Slot, int]] = {"A": 2, "B": 3}
"""boot partitions, as board/common/layout.sh numbers them"""
MOST: Final = 512


def text(slot: Slot) -> bytes:
    """The whole file: ordinary starts take `slot`, a start with the one-shot flag takes the other. Always as long."""
    lines = ("[all]", "tryboot_a_b=1", f"boot_partition={PARTITIONS[slot]}", "[tryboot]",
             f"boot_partition={PARTITIONS[other(slot)]}")  # fmt: skip
    return "".join(line + "\n" for line in lines).encode()


def ordinary(content: bytes) -> Slot | None:
    """The slot that an ordinary start takes by this file; None when it names none."""
    section, number = "all", ""
    for line in content[:MOST].decode("latin-1").splitlines():
        word = line.strip()
        if word.startswith("[") and word.endswith("]"):
            section = word[1:-1]
        elif section == "all" and word.startswith("boot_partition="):
            number = word.removeprefix("boot_partition=")
    return next((slot for slot, partition in PARTITIONS.items() if number == str(partition)), None)
