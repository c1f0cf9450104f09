"""What may be shown of observations: counts per indicator, once enough communes met it, and never who."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Count, Max, Sum

from vigie_department.console.models import Observation

COMMUNES_MIN: Final = 3
ROWS_MAX: Final = 1000


def observed(candidate: int | None = None) -> list[dict[str, Any]]:
    """Rows {candidate, indicator, communes, count, last}, most communes first."""
    found = Observation.objects.exclude(box__commune=None)
    if candidate is not None:
        found = found.filter(candidate=candidate)
    grouped = (
        found.values("candidate", "indicator")
        .annotate(communes=Count("box__commune", distinct=True), total=Sum("count"), latest=Max("last"))
        .filter(communes__gte=COMMUNES_MIN)
        .order_by("-candidate", "-communes", "-total", "indicator")[:ROWS_MAX]
    )
    return [
        {
            "candidate": row["candidate"],
            "indicator": row["indicator"],
            "communes": row["communes"],
            "count": row["total"],
            "last": row["latest"],
        }
        for row in grouped
    ]
