"""One indicator per line: addresses, prefixes, ranges, address:port, names, bare URLs. Maltrail trails too.

Comments start with `#`, `;` or `//`, on a line of their own or after the indicator (Spamhaus: `192.0.2.0/24 ; SBL1`).
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from vigie.filter.base.readers.lines import BOM, MAX_LINE, decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink, unusable
from vigie.filter.base.readers.tokens import Indicator, classify

_SLASHES = re.compile(r"(?:^|\s)//.*", re.DOTALL)
_REGEX: Final = frozenset("\\^$()[]|*+?")


def read_plain(data: bytes, options: Options, sink: Sink) -> None:
    """Plain list; the IPv4 part is read straight from the buffer."""
    _read(data, sink, trails=False)


def read_maltrail(data: bytes, options: Options, sink: Sink) -> None:
    """Maltrail's own files: also hold paths (`/gate.php`), URLs and regular expressions, which are skipped."""
    _read(data, sink, trails=True)


def _read(data: bytes, sink: Sink, *, trails: bool) -> None:
    data = data.removeprefix(BOM)
    if not data:
        return
    buffer = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(buffer == 10)
    if buffer[-1] != 10:
        ends = np.append(ends, len(buffer))
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    stops = ends - ((ends > starts) & (buffer[np.maximum(ends, 1) - 1] == 13))  # CR before LF
    sink.tally.lines += len(starts)
    left = sink.buffer(buffer, starts, stops - starts, np.arange(1, len(starts) + 1, dtype=np.uint32))
    if len(left) == 0:
        return
    lines = decoded(data)
    tokens: list[str] = []
    numbers: list[int] = []
    blank = 0
    for index in left.tolist():
        line = lines[index]
        if "#" in line:
            line = line.partition("#")[0]
        if ";" in line:
            line = line.partition(";")[0]
        if "//" in line:
            line = _SLASHES.sub("", line)
        line = line.strip()
        if not line or line[0] == "!":
            blank += 1
        elif len(line) > MAX_LINE:
            sink.bad(index + 1, line, f"line of more than {MAX_LINE} characters")
        else:
            tokens.append(line)
            numbers.append(index + 1)
    sink.tally.blank += blank
    sink.tokens(tokens, numbers, trail if trails else classify)


def trail(token: str) -> Indicator:
    """One trail: like :func:`classify`, but a path or a regular expression is normal here."""
    if token[0] == "/":
        return unusable("path of a URL, without its host")
    what = classify(token)
    if not isinstance(what, str) and not _REGEX.isdisjoint(token):
        return unusable("regular expression")
    return what
