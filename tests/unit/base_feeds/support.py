"""Short ways to read feeds in tests."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.feeds import FeedReport, parse_feed
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.source import Text

SAMPLES = Path(__file__).parents[2] / "data" / "feeds"


def feed(name: str = "sample", action: Action = Action.BLOCK, direction: Direction = Direction.BOTH) -> Feed:
    return Feed(name, Category.MALWARE, direction, action, "tests", True)


def read(text: str | bytes, **options: object) -> tuple[Entries, FeedReport]:
    data = text.encode() if isinstance(text, str) else text
    return parse_feed(feed(), Path("sample"), Text(data), Options(**options))  # type: ignore[arg-type]


def v4(entries: Entries) -> list[str]:
    """Entries as text: a, a-b, a:port."""
    rows = zip(entries.v4_first.tolist(), entries.v4_last.tolist(), entries.v4_port.tolist(), strict=True)
    return [_text(ipaddress.IPv4Address(a), ipaddress.IPv4Address(b), port) for a, b, port in rows]


def v6(entries: Entries) -> list[str]:
    """Entries as text: a, a-b, a:port."""
    rows = zip(entries.v6_first.tolist(), entries.v6_last.tolist(), entries.v6_port.tolist(), strict=True)
    return [
        _text(ipaddress.IPv6Address(a[0] << 64 | a[1]), ipaddress.IPv6Address(b[0] << 64 | b[1]), port)
        for a, b, port in rows
    ]


def _text(first: object, last: object, port: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{text}:{port}" if port else text
