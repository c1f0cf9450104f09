"""Random feeds on universes small enough to check every single place."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.columns import Entries, Feed

SPACE4 = 48
#: Places of the IPv6 universe: both ends of the axis, the seam between its halves, and some in between.
PLACES6 = [0, 1, 2, 3, 2**64 - 2, 2**64 - 1, 2**64, 2**64 + 1, 2**100, 2**100 + 1, 2**128 - 3, 2**128 - 2, 2**128 - 1]
LABELS = ["a", "bb", "c-1", "com", "fr"]

Range = tuple[int, int, int]


CATEGORIES = [Category.C2, Category.SPAM, Category.SCANNER]
ACTIONS = [Action.BLOCK, Action.BLOCK, Action.OBSERVE, Action.ALLOW, Action.NONE]
KINDS = list(product(CATEGORIES, Direction, ACTIONS))
NAMES = [".".join(labels) for count in range(1, 5) for labels in product(LABELS, repeat=count)]

# What is drawn is one number or one element of a table: drawing is what these tests spend their time on.


def feed_lists(most: int = 5) -> st.SearchStrategy[list[Feed]]:
    return st.lists(st.sampled_from(KINDS), min_size=1, max_size=most).map(
        lambda kinds: [
            Feed(f"feed-{i}", category, direction, action, "here", True)
            for i, (category, direction, action) in enumerate(kinds)
        ]
    )


def ranges(size: int) -> st.SearchStrategy[list[Range]]:
    """(first, last, port) by index on an axis of `size` places."""
    places = product(range(size), range(8), (0, 0, 0, 25, 443))
    table = [(first, min(first + more, size - 1), port) for first, more, port in places]
    return st.lists(st.sampled_from(table), max_size=8)


RANGES4 = ranges(SPACE4)
RANGES6 = ranges(len(PLACES6))
names = st.lists(st.one_of(st.sampled_from(NAMES[:155]), st.sampled_from(NAMES)), max_size=12)


def entries(v4: list[Range], v6: list[Range], texts: list[str]) -> Entries:
    """Columns of a feed; v6 by index into PLACES6."""

    def pairs(values: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        return np.array([(v >> 64, v & (2**64 - 1)) for v in values], np.uint64).reshape(-1, 2)

    return Entries(
        v4_first=np.array([r[0] for r in v4], np.uint32),
        v4_last=np.array([r[1] for r in v4], np.uint32),
        v4_port=np.array([r[2] for r in v4], np.uint16),
        v4_line=np.arange(len(v4), dtype=np.uint32),
        v6_first=pairs([PLACES6[r[0]] for r in v6]),
        v6_last=pairs([PLACES6[r[1]] for r in v6]),
        v6_port=np.array([r[2] for r in v6], np.uint16),
        v6_line=np.arange(len(v6), dtype=np.uint32),
        names=texts,
        name_line=np.arange(len(texts), dtype=np.uint32),
    )


@st.composite
def inputs(draw: st.DrawFn) -> list[tuple[Feed, Entries, list[Range], list[Range], list[str]]]:
    """Feeds with their columns and the plain ranges that these were made from."""
    out = []
    for feed in draw(feed_lists()):
        v4, v6 = draw(RANGES4), draw(RANGES6)
        texts = draw(names)
        out.append((feed, entries(v4, v6, texts), v4, v6, texts))
    return out
