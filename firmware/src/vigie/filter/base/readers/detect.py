"""Which format a feed has, told from its content alone: names and extensions lie."""

from __future__ import annotations

import re
from typing import Final

from vigie.filter.base.readers import misp, tables
from vigie.filter.base.readers.hosts import HOLES
from vigie.filter.base.readers.lines import BOM, decoded
from vigie.filter.base.readers.tokens import Unusable, classify

_SAMPLE_BYTES: Final = 256 << 10
_SAMPLE_LINES: Final = 400
_RULE = re.compile(r"#?\s*(?:alert|drop|reject|block|pass)\s+[a-z0-9_-]+\s+\S+.*\((?:.*;)\s*\)\s*")
_SCORED = re.compile(r"\S+[\t ]+[0-9]{1,6}")
_DSHIELD = re.compile(r"[0-9.]+\s+[0-9.]+\s+[0-9]{1,2}(?:\s.*)?")


class Unknown(ValueError):
    """The content has none of the known shapes; the message says what it looks like."""


def _most(lines: list[str], count: int) -> bool:
    return count * 2 > len(lines)


def detect(data: bytes) -> str:
    """Name of the format. Raises Unknown."""
    start = data[:_SAMPLE_BYTES].removeprefix(BOM)
    if b"\0" in start:
        raise Unknown("binary content, or UTF-16 text")
    if start.lstrip()[:1] in (b"{", b"["):
        found = _json(data)
        if found:
            return found
    lines = [line.strip() for line in decoded(start)]
    if len(data) > _SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # cut in its middle
    if any(line.startswith("#fields") and "indicator_type" in line for line in lines):
        return "zeek"
    if lines and lines[0] == tables.NORMALISED:
        return "normalised"
    lines = [line for line in lines if line]
    rules = [line for line in lines if not line.startswith(("!", "[Adblock", "#"))][:_SAMPLE_LINES]
    if lines and lines[0].lower().startswith(("[adblock", "! title")):
        return "adblock"
    if _most(rules, sum(rule.startswith(("||", "@@")) for rule in rules)):
        return "adblock"
    if any("Maltrail" in line for line in lines[:5] if line.startswith("#")):
        return "maltrail"
    said = [line for line in lines if line[0] not in "#;!"][:_SAMPLE_LINES]
    if _most(said, sum(_RULE.fullmatch(line) is not None for line in said)):
        return "suricata"
    return _list(said)


def _list(said: list[str]) -> str:
    """Among the formats of one row per line."""
    if not said:
        return "plain"  # nothing but comments: an empty list
    if _most(said, sum(len(line.split()) > 1 and line.split()[0] in HOLES for line in said)):
        return "hosts"
    if _most(said, sum(_DSHIELD.fullmatch(line) is not None for line in said)):
        return "dshield"
    if _most(said, sum(_SCORED.fullmatch(line) is not None for line in said)):
        return "scored"
    if _most(said, sum(_usable(line) for line in said)):
        return "maltrail" if any(line[0] == "/" for line in said) else "plain"
    if tables.delimiter(said):
        return "csv"
    if any(line[0] == "/" for line in said):
        return "maltrail"
    return "plain"  # its bad lines will say what is wrong


def _usable(line: str) -> bool:
    what = classify(re.split(r"\s*[#;]|\s//", line, maxsplit=1)[0] or line)
    return not isinstance(what, Unusable) or not what.bad


def _json(data: bytes) -> str:
    try:
        document = misp.load(data)
    except ValueError:
        first = data.lstrip().split(b"\n", 1)[0]
        try:
            misp.load(first)
        except ValueError:
            return ""
        raise Unknown("one JSON object per line: no known feed of addresses or names has this shape") from None
    if misp.is_warninglist(document):
        return "warninglist"
    if misp.is_event(document):
        return "misp"
    raise Unknown("JSON, but neither MISP events nor a MISP warning list")
