"""Addresses that protected names have now, asked for when a base is compiled.

The only part of the base that uses the network, off unless the caller asks for it. Every question has a deadline, and
so has the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import dns.exception
import dns.resolver

QUESTION_S: Final = 3.0
WHOLE_S: Final = 60.0
WORKERS: Final = 16
MOST_ADDRESSES: Final = 16
"""Addresses kept per name: what a name needs, while a hostile answer cannot protect a whole network."""

Lookup = Callable[[str, float], list[str]]
"""(name, seconds) -> its addresses as text; empty when there are none or no answer."""


def system_lookup(servers: Sequence[str] = ()) -> Lookup:
    """Look-up through the given servers, or those of the machine."""
    resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = list(servers)

    def lookup(name: str, seconds: float) -> list[str]:
        found: list[str] = []
        for kind in ("A", "AAAA"):
            try:
                answer = resolver.resolve(name, kind, lifetime=seconds, search=False)
            except dns.exception.DNSException:
                continue
            found += [record.to_text() for record in answer][:MOST_ADDRESSES]
        return found

    return lookup


def resolve(
    names: Iterable[str],
    lookup: Lookup,
    *,
    question_s: float = QUESTION_S,
    whole_s: float = WHOLE_S,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[str]]:
    """name -> addresses, for the names that have some; names not asked for within `whole_s` are left out."""
    end = clock() + whole_s

    def one(name: str) -> list[str]:
        left = end - clock()
        return lookup(name, min(question_s, left)) if left > 0 else []

    wanted = list(dict.fromkeys(names))
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="resolve") as pool:
        found = zip(wanted, pool.map(one, wanted), strict=True)
        return {name: addresses for name, addresses in found if addresses}
