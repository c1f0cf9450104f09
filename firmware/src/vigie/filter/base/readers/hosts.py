"""Hosts files: `0.0.0.0 name [name ...]`, where the address is only the hole that the name is sent to."""

from __future__ import annotations

from vigie.filter.base.readers.lines import content, decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink
from vigie.filter.base.readers.tokens import LOCAL_NAMES, Range, classify

HOLES = frozenset(
    (
        "0.0.0.0",  # noqa: S104 - where names are sent to, not a socket
        "127.0.0.1",
        "127.0.1.1",
        "255.255.255.255",
        "::",
        "::0",
        "::1",
        "fe80::1%lo0",
        "ff00::0",
        "ff02::1",
        "ff02::2",
        "ff02::3",
    )
)


def read_hosts(data: bytes, options: Options, sink: Sink) -> None:
    """Names of a hosts file. A line with a real address is a redirection, not an indicator: skipped."""
    tokens: list[str] = []
    numbers: list[int] = []
    for number, line in content(decoded(data), sink, "#!;"):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] not in HOLES:
            if len(words) > 1 and isinstance(classify(words[0]), Range):
                sink.skip(number, line, "name sent to a real address: a redirection")
            else:
                sink.bad(number, line, "not a line of a hosts file")
            continue
        names = [word for word in words[1:] if word.lower().removesuffix(".") not in LOCAL_NAMES]
        if len(words) < 2:
            sink.bad(number, line, "address without a name")
        elif not names:
            sink.skip(number, line, "name of the machine itself")
        tokens += names
        numbers += [number] * len(names)
    sink.tokens(tokens, numbers)
