"""Public suffixes: names under which strangers register their own (co.uk, github.io, duckdns.org).

Blocking one blocks everybody under it, so it is never an indicator; what is under it may be. Rules as on
publicsuffix.org, but for the wildcards of its private section (`*.compute-1.amazonaws.com`, `*.at.ply.gg`): what they
match is one customer's machine or tunnel, a favourite of malware, so only the name above the wildcard counts as shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vigie.errors import ListError
from vigie.filter.base.readers.source import unfold
from vigie.filter.base.readers.tokens import name as name_of

MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Suffixes:
    """Rules in A-labels: exact ones, those of `*.` (without it) and exceptions (without `!`)."""

    exact: frozenset[str] = frozenset()
    wildcard: frozenset[str] = frozenset()
    exception: frozenset[str] = frozenset()

    def is_suffix(self, name: str) -> bool:
        """True when the name itself is a public suffix. `name`: lower-case A-labels."""
        if name in self.exact:
            return True
        return name not in self.exception and name.partition(".")[2] in self.wildcard

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Suffixes:
        """Rules from the text of the list. Sections are told by its `===BEGIN PRIVATE DOMAINS===` line."""
        exact: set[str] = set()
        wildcard: set[str] = set()
        exception: set[str] = set()
        private = False
        for line in lines:
            private = private or "BEGIN PRIVATE DOMAINS" in line
            rule = line.split(maxsplit=1)[0] if line.strip() else ""
            if not rule or rule.startswith("//"):
                continue
            if rule.startswith("*."):
                (exact if private else wildcard).add(_ascii(rule[2:]))
            elif rule.startswith("!"):
                exception.add(_ascii(rule[1:]))
            else:
                exact.add(_ascii(rule))
        return cls(frozenset(exact), frozenset(wildcard), frozenset(exception))

    @classmethod
    def load(cls, path: Path) -> Suffixes:
        """From a public suffix list, plain or compressed. ListError when it is none."""
        text = unfold(path, MAX_BYTES).decode("utf-8", "replace")
        found = cls.parse(text.splitlines())
        if "co.uk" not in found.exact:
            raise ListError(path, None, "not a public suffix list: it has no rule co.uk")
        return found


def _ascii(rule: str) -> str:
    """A-labels; a single label is completed for the check, then cut again."""
    full = name_of(f"x.{rule}")
    return full[2:] if full else rule.lower()
