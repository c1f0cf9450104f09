"""Parameters of a request, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vigie.errors import UsageError

TEXT_MAX = 1024
_MISSING: Any = object()


def text(params: Mapping[str, Any], key: str, default: Any = _MISSING) -> str:
    """A text of at most 1024 characters."""
    value = params.get(key, default)
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise UsageError(f"`{key}` must be a text of at most {TEXT_MAX} characters")
    return value


def whole(params: Mapping[str, Any], key: str, low: int, high: int, default: int = 0) -> int:
    """A whole number from `low` to `high`."""
    value = params.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"`{key}` must be a whole number from {low} to {high}")
    return value


def number(params: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """A number from `low` to `high`; `default` when it is not given."""
    value = params.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"`{key}` must be a number from {low:g} to {high:g}")
    return float(value)
