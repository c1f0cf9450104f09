"""Which feeds list an indicator: read from the base file, in a process of its own.

`python -m vigie.filter.base_sources BASE SERIAL ADDRESS|NAME` prints a JSON list of [feed, source, category]; an empty
one when the file is of another serial, cannot be read, or does not list it.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path

import numpy as np

from vigie.contract.codes import Action
from vigie.errors import BaseError
from vigie.filter import abi
from vigie.filter.base.basefile import load_base
from vigie.filter.base.lookup import address_bytes
from vigie.filter.base.model import Base
from vigie.filter.base.names import suffix_hashes


def sources(base: Base, asked: str) -> list[tuple[str, str, int]]:
    """(feed, source, category) of each feed that lists an address or a name."""
    try:
        ipaddress.ip_address(asked)
        number = address_source(base, asked)
    except ValueError:
        number = name_source(base, asked)
    if number is None:
        return []
    feeds = (base.feeds[i].feed for i in base.source_sets[number])
    return [(feed.name, feed.source, int(feed.category)) for feed in feeds]


def name_source(base: Base, name: str) -> int | None:
    """Source set of the longest listed suffix of a name."""
    found = None
    for _suffix, number in suffix_hashes(name, base.name_key, base.name_seed):
        at = int(np.searchsorted(base.names.hash, np.uint64(number)))
        listed = at < len(base.names) and int(base.names.hash[at]) == number
        if listed and base.classes[int(base.names.cls[at])].action is not Action.NONE:
            found = int(base.names.source[at])
    return found


def address_source(base: Base, address: str) -> int | None:
    """Source set of the interval that holds an address."""
    raw = address_bytes(address)
    if raw.startswith(abi.MAPPED_PREFIX):
        value = int.from_bytes(raw[12:], "big")
        at = int(np.searchsorted(base.v4.start, np.uint32(value), side="right")) - 1
        return int(base.v4.source[at]) if at >= 0 and value <= int(base.v4.last[at]) else None
    hi, lo = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")
    v6 = base.v6
    first, after = (int(np.searchsorted(v6.start_hi, np.uint64(hi), side=side)) for side in ("left", "right"))
    at = first + int(np.searchsorted(v6.start_lo[first:after], np.uint64(lo), side="right")) - 1
    if at < 0 or (hi, lo) > (int(v6.last_hi[at]), int(v6.last_lo[at])):
        return None
    return int(v6.source[at])


def main(argv: list[str]) -> int:
    """Prints the list."""
    found: list[tuple[str, str, int]] = []
    try:
        base = load_base(Path(argv[1]), sources=True, texts=False)
        if base.serial == int(argv[2]):
            found = sources(base, argv[3])
    except BaseError as e:
        print(e, file=sys.stderr)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
