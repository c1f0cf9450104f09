"""Server names as they are compared with the base: lower case, no final dot, letters, digits, hyphen and underscore."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

NAME_MAX: Final = 253
# Underscores are not host names by RFC 952, but are in real use and in real feeds.
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}\Z")


def host_name(raw: bytes) -> tuple[str | None, str]:
    """(name, "") for a host name, else (None, why): "empty", "too-long", "not-ascii", "ip-literal" or "bad-label"."""
    if not raw:
        return None, "empty"
    if len(raw) > NAME_MAX + 1:
        return None, "too-long"
    try:
        name = raw.decode("ascii").lower()
    except UnicodeDecodeError:
        return None, "not-ascii"
    name = name.removesuffix(".")
    if len(name) > NAME_MAX:
        return None, "too-long"
    if _is_literal(name):
        return None, "ip-literal"
    if not all(_LABEL.match(label) for label in name.split(".")):
        return None, "bad-label"
    return name, ""


def _is_literal(name: str) -> bool:
    # No top-level name ends in a digit or a bracket: the slow check is for those only.
    if not name or not (name[-1].isdigit() or name[-1] == "]" or ":" in name):
        return False
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
