"""What benchmarks share: medians of interleaved runs, and the last line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

RUNS = 7


def significant(value: float, digits: int = 4) -> float:
    """Rounded to what a benchmark can tell."""
    return float(f"{value:.{digits}g}")


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each figure over the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: significant(median(run[name] for run in runs if name in run)) for name in names}


def spread(runs: Sequence[Mapping[str, float]], name: str) -> str:
    """`median (smallest .. largest)` of one figure, for people."""
    values = sorted(run[name] for run in runs if name in run)
    return f"{median(values):.4g} ({values[0]:.4g} .. {values[-1]:.4g})"


def tell(text: str) -> None:
    """Progress, for people: the standard output ends with the result."""
    print(text, file=sys.stderr, flush=True)


def result(bench: str, figures: Mapping[str, Any], peer: Mapping[str, Any] | None = None, **more: Any) -> None:
    """Print the last line."""
    line = {"bench": bench, "figures": dict(figures), "peer": dict(peer or {}), **more}
    print(json.dumps(line, ensure_ascii=False), flush=True)
