"""How far one boot of one box has been received. Pure: no database, no clock.

The rule (contract, `envelope`): each row of a box's outbox names the row before it, `prev`, as the outbox stood when it
was sent; 0 when there was none left. A row whose `prev` is already covered moves `upto`; a row beyond a gap (a broker
with a full queue drops in the middle) is kept, and `upto` jumps over it once the gap is filled. `prev` 0 says that
nothing is to be waited for: that is how a department which lost its receipts catches up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

BEYOND_MAX: Final = 2000
"""Rows remembered beyond gaps, per boot. What comes after them is not taken: the box sends it again."""


class Taken(Enum):
    """What to do with a row."""

    NEW = "new"
    DUPLICATE = "duplicate"
    """already committed: nothing to store, but worth confirming again"""
    LATER = "later"
    """too far beyond a gap: neither stored nor confirmed"""


@dataclass(slots=True)
class Mark:
    """Receipt of one (box, boot). `beyond`: seq -> its prev, of the rows committed after a gap."""

    upto: int = 0
    beyond: dict[int, int] = field(default_factory=dict)

    def take(self, seq: int, prev: int) -> Taken:
        """Account for one row; the caller stores it when it is NEW."""
        if seq <= self.upto:
            return Taken.DUPLICATE
        known = seq in self.beyond
        if prev <= self.upto:
            self.beyond.pop(seq, None)
            self.upto = seq
            self._close()
        elif known:
            # the outbox may have lost rows in between since: the latest word counts
            self.beyond[seq] = prev
        elif len(self.beyond) >= BEYOND_MAX:
            return Taken.LATER
        else:
            self.beyond[seq] = prev
        return Taken.DUPLICATE if known else Taken.NEW

    def _close(self) -> None:
        """Jump over what was received beyond the gap that has just been filled."""
        for seq in sorted(self.beyond):
            if seq <= self.upto:
                del self.beyond[seq]
            elif self.beyond[seq] <= self.upto:
                self.upto = seq
                del self.beyond[seq]
            else:
                break

    def copy(self) -> Mark:
        """For a transaction that may be tried again."""
        return Mark(self.upto, dict(self.beyond))

    def dump(self) -> list[list[int]]:
        """`beyond` as JSON: pairs of seq and prev, in order."""
        return [[seq, prev] for seq, prev in sorted(self.beyond.items())]

    @classmethod
    def load(cls, upto: int, beyond: Iterable[tuple[int, int]]) -> Mark:
        """From the database."""
        return cls(upto, {seq: prev for seq, prev in beyond})
