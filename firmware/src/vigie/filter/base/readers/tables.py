"""Tables with one indicator per row: CSV of any delimiter, address and score, DShield blocks, the normalised TSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from vigie.errors import VigieError
from vigie.filter.base.readers.lines import MAX_LINE, content, decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.plain import trail
from vigie.filter.base.readers.sink import Sink
from vigie.filter.base.readers.tokens import Range, Unusable, check_span, classify

TITLES: Final = (
    "indicator",
    "ioc",
    "ioc_value",
    "value",
    "ip",
    "ip_address",
    "ipaddress",
    "ip address",
    "dst_ip",
    "src_ip",
    "address",
    "cidr",
    "network",
    "netblock",
    "prefix",
    "domain",
    "domain_name",
    "hostname",
    "host",
    "fqdn",
    "url",
)
"""Titles of the column that holds the indicator, the best first."""
DELIMITERS: Final = ",;\t|"
_SCORE = re.compile(r"[0-9]{1,9}")
_SAMPLE: Final = 200
_BLANK: Final = " \r"  # a tab at either end is an empty cell


class ColumnError(VigieError):
    """The table has no such column, or no column that holds indicators."""


def delimiter(lines: Sequence[str]) -> str:
    """The delimiter that most lines hold; "" when none does."""
    counts = {c: sum(c in line for line in lines) for c in DELIMITERS}
    best = max(DELIMITERS, key=lambda c: counts[c])
    return best if lines and counts[best] * 2 > len(lines) else ""


def _usable(cell: str) -> bool:
    what = classify(cell.strip()) if cell.strip() else Unusable("empty")
    return not isinstance(what, Unusable) or not what.bad


def _index(wanted: str | int, titles: list[str] | None, width: int) -> int:
    if isinstance(wanted, int):
        if 1 <= wanted <= width:
            return wanted - 1
        raise ColumnError(f"no column {wanted}: the table has {width}")
    if titles is None or wanted.lower() not in titles:
        raise ColumnError(f"no column titled {wanted!r}: {', '.join(titles) if titles else 'the table has no titles'}")
    return titles.index(wanted.lower())


def _guess(rows: list[list[str]], titles: list[str] | None) -> int:
    """The column whose title says so, else the first in which most cells are indicators."""
    if titles:
        for title in TITLES:
            if title in titles:
                return titles.index(title)
    for i in range(max((len(row) for row in rows), default=0)):
        cells = [row[i] for row in rows if i < len(row)]
        if cells and sum(map(_usable, cells)) * 2 > len(rows):
            return i
    raise ColumnError("no column that holds addresses or names: name it (column:)")


def read_csv(data: bytes, options: Options, sink: Sink) -> None:
    """CSV, TSV and the like. The first row is titles when no cell of it is an indicator."""
    lines = decoded(data)
    texts = (line.strip(_BLANK) for line in lines)
    sample = list(islice((text for text in texts if text and text[0] != "#" and len(text) <= MAX_LINE), _SAMPLE + 1))
    if not sample:
        for _ in content(lines, sink, "#", _BLANK):
            pass  # nothing but comments, or lines far too long: counted
        return
    mark = delimiter(sample) or ","
    rows = [_cells(text, mark) for text in sample]
    titles = None
    if not any(_usable(cell) for cell in rows[0]):
        titles = [cell.strip().lower() for cell in rows.pop(0)]
    width = max((len(cells) for cells in rows), default=len(titles or ()))
    column = _guess(rows, titles) if options.column is None else _index(options.column, titles, width)
    score = None if options.score_column is None else _index(options.score_column, titles, width)
    needed = max(column, score or 0) + 1
    tokens: list[str] = []
    numbers: list[int] = []
    first = True
    for number, text in content(lines, sink, "#", _BLANK):
        if first and titles is not None:
            first = False
            sink.tally.blank += 1
            continue
        cells = _cells(text, mark) if '"' in text else text.split(mark, needed)
        token = cells[column].strip() if column < len(cells) else ""
        if not token:
            sink.bad(number, text, "empty or missing column")
        elif score is None or _scored(cells[score] if score < len(cells) else "", number, text, options, sink):
            tokens.append(token)
            numbers.append(number)
    sink.tokens(tokens, numbers)


def _cells(text: str, mark: str) -> list[str]:
    """Cells of one line. A quoted cell does not run over several lines: feeds never do that, a stray quote does."""
    if '"' not in text:
        return text.split(mark)
    try:
        return next(csv.reader([text], delimiter=mark), [])
    except csv.Error:  # a carriage return inside the line
        return []


def _scored(cell: str, number: int, text: str, options: Options, sink: Sink) -> bool:
    if not _SCORE.fullmatch(cell.strip()):
        sink.bad(number, text, "score is not a number")
        return False
    if int(cell) < options.min_score:
        sink.skip(number, text, f"score below {options.min_score}")
        return False
    return True


def read_scored(data: bytes, options: Options, sink: Sink) -> None:
    """`address<TAB>score`, as ipsum: the score counts the lists that hold the address."""
    tokens: list[str] = []
    numbers: list[int] = []
    for number, line in content(decoded(data), sink, "#;"):
        words = line.split()
        if len(words) != 2:
            sink.bad(number, line, "not an indicator and a score")
        elif _scored(words[1], number, line, options, sink):
            tokens.append(words[0])
            numbers.append(number)
    sink.tokens(tokens, numbers)


def read_dshield(data: bytes, options: Options, sink: Sink) -> None:
    """DShield's block list: first address, last address, prefix length, then figures; a title row."""
    for number, line in content(decoded(data), sink, "#"):
        words = line.split()
        if words[0].lower() == "start":
            sink.tally.blank += 1
            continue
        ends = [classify(word) for word in words[:2]]
        if len(words) < 3 or not all(isinstance(end, Range) and end.first == end.last for end in ends):
            sink.bad(number, line, "not a start address, an end address and a prefix length")
            continue
        what = classify(f"{words[0]}-{words[1]}")
        if isinstance(what, Range):
            size = what.last - what.first + 1
            what = check_span(what)
            if words[2] != str((32 if ":" not in words[0] else 128) - size.bit_length() + 1) or size & (size - 1):
                sink.warn(number, line, "prefix length and bounds disagree: the bounds are used")
        sink.add(what, number, line)


NORMALISED: Final = "kind\tindicator\ttrail"
"""Title row of the normalised TSV: kind, indicator, label (`malware/qakbot`)."""


def read_normalised(data: bytes, options: Options, sink: Sink) -> None:
    """The normalised TSV; `options.label` keeps the rows of some families, the others do not count as skipped."""
    tokens: list[str] = []
    numbers: list[int] = []
    wanted = options.label
    lines = decoded(data)
    sink.tally.lines += len(lines)
    other = 0
    for number, line in enumerate(lines, 1):
        cells = line.rstrip("\r").split("\t")
        if len(cells) == 3:
            if not cells[2].startswith(wanted) or (number == 1 and cells[0] == "kind"):
                other += 1
            else:
                tokens.append(cells[1])
                numbers.append(number)
        elif not line.strip() or line[0] == "#":
            other += 1
        else:
            sink.bad(number, line, "not three columns: kind, indicator, label")
    sink.tally.blank += other
    sink.tokens(tokens, numbers, trail)
