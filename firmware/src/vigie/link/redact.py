"""Makes technical texts fit to leave the commune: no MAC, no address, no name, no URL, no secret. Pure.

Errs on the side of removing: what looks like a name is one. A version number of four parts goes too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

MAC: Final = "<mac>"
ADDRESS: Final = "<ip>"
NAME: Final = "<name>"
MAIL: Final = "<mail>"
URL: Final = "<url>"
HEX: Final = "<hex>"

# Endings of the box's own files that are no top-level domain (so .py and .so are not here).
_FILES: Final = frozenset(
    {"json", "vgb", "vgd", "service", "sock", "socket", "yaml", "db", "log", "pem", "img", "txt", "timer", "conf"}
)
_KEYED: Final = re.compile(
    r"""(?i)\b(host[ _-]?name|host|name|nom|ssid|user|login|device|client|domain|server)(["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|[^\s,;}\]]+)"""
)
_URL: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+")
_MAIL: Final = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_MAC: Final = re.compile(
    r"(?i)(?<![0-9a-f])(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}|[0-9a-f]{12})"
    r"(?![0-9a-f])"
)
_V6: Final = re.compile(r"(?i)(?<![\w:.])[0-9a-f]*:[0-9a-f:]*:?[0-9a-f.:]*(?:%\w+)?(?:/\d{1,3})?")
_V4: Final = re.compile(r"(?<!\d)\d{1,3}([.-])\d{1,3}(?:\1\d{1,3}){2}(?:/\d{1,2})?(?!\d)")
_HEX: Final = re.compile(r"(?i)(?<![\w-])(?:[0-9a-f]{24,}|[A-Za-z0-9+/_-]{40,}={0,2})(?![\w-])")
_NAME: Final = re.compile(r"(?<![\w.-])(?:[\w-]{1,63}[.\u3002\uff0e\uff61])+[^\W\d_][\w-]{1,62}(?![\w-])\.?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def redact(text: str, names: Collection[str] = (), keep: Collection[str] = ()) -> str:
    """The text without what names a person, a machine or a place on the net.

    names: words to remove wherever they stand alone (host names without a dot). keep: host names that may stay (the
    department's own servers).
    """
    text = _CONTROL.sub(" ", text)
    text = _URL.sub(URL, text)
    text = _MAIL.sub(MAIL, text)
    text = _MAC.sub(MAC, text)
    text = _V6.sub(_six, text)
    text = _V4.sub(ADDRESS, text)
    text = _HEX.sub(HEX, text)
    kept = {k.lower() for k in keep}
    text = _NAME.sub(lambda m: m[0] if _stays(m[0], kept) else NAME, text)
    text = _KEYED.sub(lambda m: f"{m[1]}{m[2]}{m[3] if _harmless(m[3], kept) else NAME}", text)
    for word in sorted({n for n in names if len(n) > 1}, key=len, reverse=True):
        text = re.sub(rf"(?i)(?<![\w-]){re.escape(word)}(?![\w-])", NAME, text)
    return text


def _six(match: re.Match[str]) -> str:
    """An IPv6 address, or what a regular expression takes for one (a time of day, a key in JSON)."""
    word = match[0].rstrip(".")
    core = word.partition("%")[0].partition("/")[0]
    for candidate in (core, core.rstrip(":"), core.strip(":")):
        try:
            ipaddress.IPv6Address(candidate)
        except ValueError:
            continue
        return ADDRESS + match[0][len(word) :]
    return match[0]


def _stays(name: str, keep: set[str]) -> bool:
    word = name.rstrip(".").lower()
    return word in keep or word.rpartition(".")[2] in _FILES


def _harmless(value: str, keep: set[str]) -> bool:
    """Values that name nothing: what is redacted already, numbers, kept names."""
    word = value.strip("\"'").lower()
    return (
        word.startswith("<") or word in keep or re.fullmatch(r"-?[0-9.]*|true|false|null|none|\{|\[", word) is not None
    )
