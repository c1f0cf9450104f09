"""Where every reader puts what it found: columns of entries on one side, the report on the other."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vigie.filter.base.columns import U8, U16, U32, Bools, Entries
from vigie.filter.base.readers import ipv4
from vigie.filter.base.readers.ipv4 import Index
from vigie.filter.base.readers.tokens import LOWER_NAME, MAX_NAME, WIDEST4, Indicator, Range, Unusable, classify

KEPT_NOTES: Final = 1000
"""Bad lines and warnings kept word for word; all of them are counted."""
CUT: Final = 120
"""Longest text of a line that is quoted."""
_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Note:
    """Something about one line of the feed: its number from 1, its text (cut) and what is said of it."""

    line: int
    text: str
    reason: str


def cut(text: str) -> str:
    """Printable and short: a feed may hold escape sequences, and the report goes to a terminal."""
    shown = "".join(" " if c == "\t" else c if c.isprintable() else "\ufffd" for c in text[: CUT + 1])
    return shown[: CUT - 1] + "…" if len(shown) > CUT else shown


@dataclass(slots=True)
class Tally:
    """What became of the lines. `skipped` counts, by reason, well-formed lines that hold nothing usable."""

    lines: int = 0
    blank: int = 0
    good: int = 0
    bad: int = 0
    warned: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    bad_notes: list[Note] = field(default_factory=list)
    skip_notes: dict[str, Note] = field(default_factory=dict)
    warnings: list[Note] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Lines that say something: neither blank nor comment."""
        return self.good + self.bad + sum(self.skipped.values())


class Sink:
    """Collects entries and notes; `entries()` at the end."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._first4, self._last4, self._port4, self._line4 = array("I"), array("I"), array("H"), array("I")
        self._blocks4: list[tuple[U32, U32, U16, U32]] = []
        self._six: list[tuple[int, int, int, int]] = []
        self.names: list[str] = []
        self._name_line = array("I")

    def bad(self, line: int, text: str, reason: str) -> None:
        """The line breaks the rules of its format."""
        self.tally.bad += 1
        if len(self.tally.bad_notes) < KEPT_NOTES:
            self.tally.bad_notes.append(Note(line, cut(text), reason))

    def skip(self, line: int, text: str, reason: str) -> None:
        """The line is well formed but the base cannot hold what it says."""
        self.tally.skipped[reason] += 1
        if reason not in self.tally.skip_notes:
            self.tally.skip_notes[reason] = Note(line, cut(text), reason)

    def warn(self, line: int, text: str, reason: str) -> None:
        """The line is used, but not quite as it is written."""
        self.tally.warned += 1
        if len(self.tally.warnings) < KEPT_NOTES:
            self.tally.warnings.append(Note(line, cut(text), reason))

    def add(self, what: Indicator, line: int, text: str) -> None:
        """File one classified token."""
        if isinstance(what, str):
            self.tally.good += 1
            self.names.append(what)
            self._name_line.append(line)
        elif isinstance(what, Range):
            self.tally.good += 1
            if what.warning:
                self.warn(line, text, what.warning)
            if what.family == 4:
                self._first4.append(what.first)
                self._last4.append(what.last)
                self._port4.append(what.port)
                self._line4.append(line)
            else:
                self._six.append((what.first, what.last, what.port, line))
        elif what.bad:
            self.bad(line, text, what.reason)
        else:
            self.skip(line, text, what.reason)

    def tokens(self, tokens: Sequence[str], lines: Sequence[int], read: Callable[[str], Indicator] = classify) -> None:
        """File many tokens, each with its line. IPv4 ones are read by numpy, all together, the rest by `read`."""
        data = "\n".join(tokens).encode("utf-8", "replace")
        buffer = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(buffer == 10)
        starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
        lengths = np.append(ends, len(buffer)) - starts
        if len(starts) != len(tokens):  # a token that holds a line feed: read one by one
            left: Sequence[int] = range(len(tokens))
        else:
            left = self.buffer(buffer, starts, lengths, np.asarray(lines, np.uint32)).tolist()
        named, names, name_lines = LOWER_NAME.fullmatch, self.names, self._name_line
        fast = 0
        for i in left:
            token = tokens[i]
            lower = token.lower()
            if len(lower) <= MAX_NAME and named(lower):
                names.append(lower)
                name_lines.append(lines[i])
                fast += 1
            else:
                self.add(read(token), lines[i], token)
        self.tally.good += fast

    def buffer(self, buffer: U8, starts: Index, lengths: Index, lines: U32) -> Index:
        """File the IPv4 tokens of a buffer; the indices of the tokens that are something else are returned."""
        parsed = ipv4.parse(buffer, starts, lengths)
        take: Bools = parsed.ok & (parsed.last - parsed.first < WIDEST4)
        if take.any():
            self.tally.good += int(take.sum())
            self._blocks4.append((parsed.first[take], parsed.last[take], parsed.port[take], lines[take]))
        for i in np.flatnonzero(take & parsed.host_bits).tolist():
            text = bytes(buffer[starts[i] : starts[i] + lengths[i]]).decode("ascii", "replace")
            what = classify(text)
            self.warn(int(lines[i]), text, what.warning if isinstance(what, Range) else "not a network address")
        return np.flatnonzero(~take)

    def entries(self) -> Entries:
        """Everything filed, in columns; addresses in the order of their lines."""
        tail = (
            np.array(self._first4, np.uint32),
            np.array(self._last4, np.uint32),
            np.array(self._port4, np.uint16),
            np.array(self._line4, np.uint32),
        )
        blocks = [*self._blocks4, tail]
        first, last, port, line = (np.concatenate([block[i] for block in blocks]) for i in range(4))
        order = np.argsort(line, kind="stable")
        six = self._six
        done = Entries(
            v4_first=first[order].astype(np.uint32),
            v4_last=last[order].astype(np.uint32),
            v4_port=port[order].astype(np.uint16),
            v4_line=line[order].astype(np.uint32),
            v6_first=np.array([(row[0] >> 64, row[0] & _MASK64) for row in six], np.uint64).reshape(-1, 2),
            v6_last=np.array([(row[1] >> 64, row[1] & _MASK64) for row in six], np.uint64).reshape(-1, 2),
            v6_port=np.array([row[2] for row in six], np.uint16),
            v6_line=np.array([row[3] for row in six], np.uint32),
            names=self.names,
            name_line=np.array(self._name_line, np.uint32),
        )
        done.check()
        return done


def unusable(reason: str) -> Unusable:
    """A token to be skipped, not counted as bad."""
    return Unusable(reason, bad=False)
