"""JSON as the contract takes it: bounded, UTF-8, one object, no duplicate names, no NaN, no half pairs, no depth.

A duplicate name is refused because two parsers may choose differently (RFC 8259, 4): what was checked must be what is
used.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from vigie.contract.errors import MessageError, TooLargeError

MESSAGE_MAX: Final = 60 * 1024
"""Bytes of any message over MQTT. With topic and properties it stays below the broker's `max_packet_size` of 64 KiB: a
larger packet would end the session, again and again."""
DEPTH_MAX: Final = 16
INTEGER_MAX: Final = 2**53 - 1
"""Largest integer that every JSON parser keeps exactly (RFC 8259, 6)."""
_DIGITS_MAX: Final = 20
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(data: bytes, most: int = MESSAGE_MAX, what: str = "message") -> dict[str, Any]:
    """The object in `data`. TooLargeError above `most` bytes; MessageError for anything else than one plain object."""
    if len(data) > most:
        raise TooLargeError("", f"{what}: {len(data)} bytes, at most {most}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
        if _SURROGATE.search(data):
            # Half a pair is no text (RFC 7493, 2.1): what is read here could not be written again.
            json.dumps(value, ensure_ascii=False).encode()
        depth_ok = _depth(value, DEPTH_MAX)
    except MessageError:
        raise
    except (ValueError, RecursionError) as e:
        raise MessageError("", f"{what}: not JSON ({e})") from e
    if not isinstance(value, dict):
        raise MessageError("", f"{what}: an object is expected")
    if not depth_ok:
        raise MessageError("", f"{what}: nested deeper than {DEPTH_MAX}")
    return value


def dumps(value: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON, names in the order given. ValueError on NaN and the like: a bug of the caller."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise MessageError("", "an object names a field twice")
    return out


def _constant(text: str) -> NoReturn:
    raise MessageError("", f"{text} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise MessageError("", "a number has more digits than the contract allows")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise MessageError("", "a number is too large")
    return value


def _depth(value: Any, left: int) -> bool:
    if left < 0:
        return False
    if isinstance(value, dict):
        return all(_depth(v, left - 1) for v in value.values())
    if isinstance(value, list):
        return all(_depth(v, left - 1) for v in value)
    return True
