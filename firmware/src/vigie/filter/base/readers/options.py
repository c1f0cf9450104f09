"""How one feed is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vigie.filter.base.readers.source import MAX_BYTES

MAX_BAD: Final = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """format: name of a reader, "" = told from the content.
    column, score_column: of tables, a title or a number from 1; None = told from the content.
    min_score: rows with a lower score are left out (formats with a score).
    label: only rows whose last column begins so (normalised TSV). under: only this folder of an archive.
    max_bad: share of bad lines, among those that say something, above which the feed is refused.
    """

    format: str = ""
    column: str | int | None = None
    score_column: str | int | None = None
    min_score: int = 0
    label: str = ""
    under: str = ""
    max_bad: float = MAX_BAD
    max_bytes: int = MAX_BYTES
