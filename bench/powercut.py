"""`make bench-powercut`: power cuts in an update, counted.

A model of the CM4 (firmware, flash, /data; tests/support/pi_*.py) and one of the virtual board's U-Boot run whole
updates through the box's own code. Each scenario is cut once at every step in every way that the step can end, then
twice at random places. A box that starts nothing, or half of something, is bricked; one that does not end in the right
release, committed, is unfinished. Then a real vfat's writes (tests/data/fatwrites.json), cut everywhere, for four ways
to change autoboot.txt. ARGS="--every N" takes each Nth cut only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

from bench.common import result, tell
from tests.support import fat_writes
from tests.support.pi_box import SCENARIOS, Board, Box, End, PiBoard, Scenario, double, single
from tests.support.pi_firmware import Firmware
from tests.support.uboot_board import UbootBoard

PAIRS = 100
SEED = 1


def cut(board: Board, scenario: Scenario, every: int) -> Counter[End]:
    """Ends of a scenario on a board."""
    ends: Counter[End] = Counter()
    cuts = [[one] for one in islice(single(board, scenario), 0, None, every)]
    for chosen in (*cuts, *double(board, scenario, -(-PAIRS // every), SEED)):
        run = Box(board, scenario, list(chosen)).finish()
        ends[run.end] += 1
        if run.end is not End.FINISHED:
            tell(f"  {[run.power.names[one.step] for one in chosen]} {chosen}: {run.end}: {run.why}")
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.powercut")
    parser.add_argument("--every", type=int, default=1)
    every = parser.parse_args().every
    total: Counter[End] = Counter()
    figures: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for kind, board in (("tryboot", PiBoard(work)), ("uboot", UbootBoard(work))):
            ends: Counter[End] = Counter()
            for scenario in SCENARIOS:
                if kind == "uboot" and scenario.spoilt:
                    continue  # it does not look at partition 1
                found = cut(board, scenario, every)
                tell(f"{kind}, {scenario.name}: {dict(found)}")
                ends += found
            figures[f"{kind}_cuts"] = ends.total()
            total += ends
        recording = fat_writes.load()
        ways = {way: fat_writes.count(Firmware(work), recording, way) for way in recording.ways}
    for way, counts in ways.items():
        tell(f"vfat of Linux {recording.kernel}, {way}: {counts}")
    figures = {
        "model_cuts": total.total(), "bricked": total[End.BRICKED], "unfinished": total[End.UNFINISHED], **figures,
    }  # fmt: skip
    result("powercut", figures, every=every, vfat={"kernel": recording.kernel, "ways": ways})
    return 0 if total[End.FINISHED] == total.total() else 1


if __name__ == "__main__":
    sys.exit(main())
