"""Taking over from a data path of another memory layout, without a gap in filtering.

Maps are pinned by layout: `<pin dir>/v0`, `v1`, ... A program of layout n finds `vn` empty and another folder full,
while the program of the other layout still judges the traffic. The order is then

1. `Migration(datapath, pin_dir).prepare()`: flows of a known layout are copied into the new cache; when no converter
   knows the layout (or its maps cannot be read), unsolicited inbound passes for GRACE_S, so that flows which the LAN
   opened earlier are not refused for want of memory;
2. the daemon loads base and policy into the new maps;
3. `DataPath.attach` replaces the programs, each atomically;
4. `finish` copies the flows that began meanwhile and removes the old maps.

A converter is registered for each released layout that this program can read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vigie.errors import BpfError
from vigie.filter.control import GRACE_S, now_s
from vigie.filter.datapath import DataPath, other_layouts
from vigie.filter.flowcache import Flows


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a converter read, in the present layout.

    flows: dtype `abi.FLOW`, shape (n,); tags and check bits need not be filled, openers (`flags`) and times must.
    openers, flow_seed: the memory of openers and the key of its hashes, where the old layout has the same ones.
    """

    flows: Flows
    openers: npt.NDArray[np.uint64] | None = None
    flow_seed: int = 0


Converter = Callable[[Path], Legacy]

CONVERTERS: Final[dict[int, Converter]] = {}
"""Layout version -> reader of its folder of pinned maps. Layout 2 is the first to be released."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """layouts: versions found; flows: entries copied; grace_until: end of the grace period, 0 when none was needed."""

    layouts: tuple[int, ...]
    flows: int
    grace_until: int


class Migration:
    """One take-over. With no other layout pinned, both steps do nothing."""

    def __init__(self, datapath: DataPath, pin_dir: Path, converters: Mapping[int, Converter] | None = None) -> None:
        self._datapath = datapath
        self._folders = other_layouts(pin_dir)
        self._converters = CONVERTERS if converters is None else converters

    def prepare(self) -> Outcome:
        """Copy what can be copied, else begin the grace period."""
        if not self._folders:
            return Outcome((), 0, 0)
        copied, unreadable = self._copy()
        settings = self._datapath.settings
        if unreadable:
            settings.set_grace(max(int(settings.record["grace_until"]), now_s() + GRACE_S))
        until = int(settings.record["grace_until"]) if unreadable else 0
        return Outcome(tuple(sorted(self._folders)), copied, until)

    def finish(self, port0: str, port1: str, bridge: str) -> int:
        """After the programs are attached: copy the flows that began meanwhile, remove the old maps; flows copied.

        BpfError, and nothing is removed, while the new programs do not hang on all three hooks.
        """
        if not self._folders:
            return 0
        if not self._datapath.attached(port0, port1, bridge):
            raise BpfError(f"the programs are not attached to {port0}, {port1} and {bridge}: attach them first")
        copied, _ = self._copy()
        for folder in self._folders.values():
            for pinned in folder.iterdir():
                pinned.unlink()
            folder.rmdir()
        self._folders = {}
        return copied

    def _copy(self) -> tuple[int, bool]:
        copied, unreadable = 0, False
        for version, folder in sorted(self._folders.items(), reverse=True):
            converter = self._converters.get(version)
            if converter is None:
                unreadable = True
                continue
            try:
                legacy = converter(folder)
            except BpfError:  # half-pinned by a daemon that died: as good as unknown
                unreadable = True
                continue
            if legacy.flow_seed and legacy.openers is not None:
                self._datapath.adopt_openers(legacy.openers, legacy.flow_seed)
            copied += self._datapath.cache.insert(legacy.flows)
        return copied, unreadable
