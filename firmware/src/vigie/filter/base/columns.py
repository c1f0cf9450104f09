"""What a parsed feed is: who says it, and numpy columns of what it lists.

Readers fill :class:`Entries`; the compiler (:mod:`vigie.filter.base.compile`) merges many of them.
Columns instead of objects because a feed may hold a million lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import Action, Category, Direction

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Feed:
    """A list that names toxic things, and what is done with them.

    `action` ALLOW makes never-block entries. `source` is where it comes from (address or file), for people;
    `redistributable` is False when its licence does not let the department pass its content on.
    """

    name: str
    category: Category
    direction: Direction
    action: Action
    source: str
    redistributable: bool
    licence: str = ""


def _u16() -> U16:
    return np.zeros(0, np.uint16)


def _u32() -> U32:
    return np.zeros(0, np.uint32)


def _u64x2() -> U64:
    return np.zeros((0, 2), np.uint64)


@dataclass(slots=True)
class Entries:
    """Content of one feed after parsing; every bound is inclusive and in host order.

    v4_*: n rows; v6_*: m rows, addresses as (high 64 bits, low 64 bits); port 0 means every port;
    *_line: line in the feed, from 1. Names are lower-case A-labels without the final dot.
    """

    v4_first: U32 = field(default_factory=_u32)
    v4_last: U32 = field(default_factory=_u32)
    v4_port: U16 = field(default_factory=_u16)
    v4_line: U32 = field(default_factory=_u32)
    v6_first: U64 = field(default_factory=_u64x2)
    v6_last: U64 = field(default_factory=_u64x2)
    v6_port: U16 = field(default_factory=_u16)
    v6_line: U32 = field(default_factory=_u32)
    names: list[str] = field(default_factory=list)
    name_line: U32 = field(default_factory=_u32)

    def __len__(self) -> int:
        return len(self.v4_first) + len(self.v6_first) + len(self.names)

    def check(self) -> None:
        """Raise ValueError when columns disagree in shape, or a range ends before it starts."""
        n, m, k = len(self.v4_first), len(self.v6_first), len(self.names)
        for column, rows in (
            (self.v4_last, n),
            (self.v4_port, n),
            (self.v4_line, n),
            (self.v6_last, m),
            (self.v6_port, m),
            (self.v6_line, m),
            (self.name_line, k),
        ):
            if len(column) != rows:
                raise ValueError(f"columns of different lengths: {len(column)} rows where {rows} are expected")
        if self.v6_first.shape != (m, 2) or self.v6_last.shape != (m, 2):
            raise ValueError("IPv6 bounds must have two columns: high and low 64 bits")
        if (self.v4_last < self.v4_first).any():
            raise ValueError("an IPv4 range ends before it starts")
        first, last = self.v6_first, self.v6_last
        if ((last[:, 0] < first[:, 0]) | ((last[:, 0] == first[:, 0]) & (last[:, 1] < first[:, 1]))).any():
            raise ValueError("an IPv6 range ends before it starts")
