"""Filter lists of ad blockers: only `||name^`, which means the name and what is below it, as the base does."""

from __future__ import annotations

import re

from vigie.filter.base.readers.lines import content, decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink

_HOST = re.compile(r"\|\|([^/^$*|:\s]+)\^?(?:\$(.*))?")
_COSMETIC = re.compile(r"#[@?$%]{0,3}#")
_WHOLE = frozenset({"important", "all", "document", "doc", "popup"})
"""Modifiers that leave a rule about the whole host; with any other it holds for certain pages or requests only."""


def read_adblock(data: bytes, options: Options, sink: Sink) -> None:
    """Host rules; every other kind of rule is skipped with its reason."""
    tokens: list[str] = []
    numbers: list[int] = []
    for number, line in content(decoded(data), sink, "!["):
        if (rule := _HOST.fullmatch(line)) is not None and not line.startswith("@@"):
            if rule[2] and not _WHOLE.issuperset(rule[2].split(",")):
                sink.skip(number, line, "rule with modifiers: holds for certain requests only")
            else:
                tokens.append(rule[1])
                numbers.append(number)
        elif line.startswith("@@"):
            sink.skip(number, line, "exception")
        elif _COSMETIC.search(line):
            sink.skip(number, line, "cosmetic rule")
        elif line.startswith("#"):
            sink.tally.blank += 1
        else:
            sink.skip(number, line, "rule about a part of a URL")
    sink.tokens(tokens, numbers)
