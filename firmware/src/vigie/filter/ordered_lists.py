"""What the department protects and holds essential, as the base's image is built with it: one small JSON file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from vigie.contract import targets
from vigie.errors import HostError, ListError
from vigie.filter.base.additions import Additions
from vigie.filter.base.model import MAX_RANK
from vigie.host.files import read_small

FILE_MAX: Final = 256 * 1024


def with_ordered(own: Additions, path: Path | None) -> Additions:
    """The box's additions with the department's; its own ranks stay. No file adds nothing. Raises ListError."""
    if path is None:
        return own
    try:
        data = read_small(path, FILE_MAX)
        if data is None:
            return own
        document = json.loads(data)
        never_names = tuple(_checked(t, path) for t in document["never_names"])
        never_networks = tuple(_checked(t, path) for t in document["never_networks"])
        names = {_checked(t, path): _rank(rank, path) for t, rank in document["essential_names"].items()}
        networks = {_checked(t, path): _rank(rank, path) for t, rank in document["essential_networks"].items()}
    except (HostError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ListError(path, None, f"no lists of a department ({type(e).__name__}: {e})") from e
    return replace(
        own,
        never_names=(*own.never_names, *never_names),
        never_networks=(*own.never_networks, *never_networks),
        essential_names={**names, **own.essential_names},
        essential_networks={**networks, **own.essential_networks},
    )


def _checked(text: str, path: Path) -> str:
    if targets.canonical(text) != text:
        raise ListError(path, None, f"{text[:80]!r} is neither a name nor a prefix")
    return text


def _rank(rank: object, path: Path) -> int:
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise ListError(path, None, f"{rank!r} is no rank from 1 to {MAX_RANK}")
    return rank
