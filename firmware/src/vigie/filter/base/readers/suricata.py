"""Suricata rules: the addresses of their headers, and names that a rule matches whole (`dns.query`, `tls.sni`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vigie.filter.base.readers.lines import decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink
from vigie.filter.base.readers.tokens import Range, classify

_RULE = re.compile(
    r"(?:alert|drop|reject|rejectsrc|rejectdst|rejectboth|block)\s+([a-z0-9_-]+)\s+"
    r"(\[[^\]]*\]|\S+)\s+(\[[^\]]*\]|\S+)\s+(?:->|<>)\s+(\[[^\]]*\]|\S+)\s+(\[[^\]]*\]|\S+)\s*\((.*)\)\s*"
)
_PASS = re.compile(r"(?:pass|config)\s")
_NAME_BUFFER = re.compile(
    r"\b(?:dns[._]query|tls[._]sni)\s*;(.*?)(?=\b(?:dns|tls|http)[._][a-z_]+\s*;|\bsid:|\Z)", re.DOTALL
)
_CONTENT = re.compile(r'content:\s*(!?)"((?:[^"\\]|\\.)*)"')
_WHOLE = re.compile(r"\b(?:endswith|bsize)\b|isdataat:\s*!1")
_MAX_RULE = 65536


def read_suricata(data: bytes, options: Options, sink: Sink) -> None:
    """Indicators of each rule; a rule without any is skipped, a line that is no rule is bad."""
    lines = decoded(data)
    sink.tally.lines += len(lines)
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] == "#":
            sink.tally.blank += 1
            continue
        if _PASS.match(text):
            sink.skip(number, text, "rule that lets pass")
            continue
        rule = _RULE.fullmatch(text) if len(text) <= _MAX_RULE else None
        if rule is None:
            sink.bad(number, text, "not a Suricata rule")
            continue
        found = [*_addresses(rule[2], rule[3]), *_addresses(rule[4], rule[5]), *_names(rule[6])]
        if not found:
            sink.skip(number, text, "rule without an address or a whole name")
        tokens = [token for token in found if token]
        if tokens:
            sink.tokens(tokens, [number] * len(tokens))


def _addresses(group: str, port: str) -> Iterator[str]:
    """Literal addresses of one side; variables and negations name no indicator. A single port goes with an address."""
    for item in group.strip("[]").split(","):
        item = item.strip()
        if not item or item[0] in "$!" or item == "any":
            continue
        what = classify(item)
        single = isinstance(what, Range) and what.first == what.last
        if port.isdigit() and single:
            yield f"[{item}]:{port}" if ":" in item else f"{item}:{port}"
        else:
            yield item


def _names(body: str) -> Iterator[str]:
    """Names matched to their end. A pattern in the middle of names is none."""
    for part in _NAME_BUFFER.findall(body):
        contents = _CONTENT.findall(part)
        if len(contents) == 1 and not contents[0][0] and _WHOLE.search(part):
            text = contents[0][1].removeprefix(".").replace("|2e|", ".").replace("|2E|", ".")
            if "|" not in text:
                yield text
