"""Opening hours as people write them: `lu-ve 09:00-12:00 14:00-17:30 ; sa 09:00-12:00`. Pure."""

from __future__ import annotations

import itertools
import re
from typing import Final

from vigie.contract.downward import HOURS_MAX, Opening
from vigie_department.errors import UsageError
from vigie_department.texts import _

DAYS: Final = ("lu", "ma", "me", "je", "ve", "sa", "di")
_SPAN: Final = re.compile(r"(\d{1,2})[:h](\d{2})?-(\d{1,2})[:h](\d{2})?")


def parse(text: str) -> tuple[Opening, ...]:
    """Openings in order of days and hours; none for an empty text. UsageError says which part is wrong."""
    found: list[Opening] = []
    for part in filter(None, (piece.strip() for piece in text.lower().split(";"))):
        words = part.split()
        days = _days(words[0])
        spans = [_span(word) for word in words[1:]]
        if not spans:
            raise UsageError(_("« {part} » : il manque les heures, par exemple 09:00-12:00").format(part=part))
        found += [Opening(day, start, end) for day in days for start, end in spans]
    found.sort(key=lambda opening: (opening.day, opening.start))
    for one, other in itertools.pairwise(found):
        if one.day == other.day and other.start < one.end:
            raise UsageError(_("« {text} » : des heures se recouvrent").format(text=text))
    if len(found) > HOURS_MAX:
        raise UsageError(_("« {text} » : plus de {most} plages").format(text=text, most=HOURS_MAX))
    return tuple(found)


def _days(word: str) -> range:
    first, dash, last = word.partition("-")
    try:
        start = DAYS.index(first)
        end = DAYS.index(last) if dash else start
    except ValueError:
        raise UsageError(
            _("« {word} » : un jour ({days}) ou un intervalle comme lu-ve est attendu").format(
                word=word, days=" ".join(DAYS)
            )
        ) from None
    if end < start:
        raise UsageError(_("« {word} » : les jours sont dans le désordre").format(word=word))
    return range(start, end + 1)


def _span(word: str) -> tuple[int, int]:
    match = _SPAN.fullmatch(word)
    if match is None:
        raise UsageError(_("« {word} » : des heures comme 09:00-12:00 sont attendues").format(word=word))
    hour, minute, end_hour, end_minute = (int(part or 0) for part in match.groups())
    start, end = 60 * hour + minute, 60 * end_hour + end_minute
    if minute > 59 or end_minute > 59 or end > 24 * 60 or start >= end:
        raise UsageError(_("« {word} » : ces heures n'existent pas ou sont dans le désordre").format(word=word))
    return start, end
