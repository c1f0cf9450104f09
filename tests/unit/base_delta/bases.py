"""Small bases written by hand, as files and as objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.basefile import BaseFile, in_memory, pack_base
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.compile import Input, compile_entries
from vigie.filter.base.model import Base


def feed(name: str = "one", action: Action = Action.BLOCK, category: Category = Category.C2) -> Feed:
    return Feed(name, category, Direction.BOTH, action, f"https://feeds.example/{name}", True)


def listed(nets: Iterable[str] = (), names: Iterable[str] = (), ports: Iterable[tuple[str, int]] = ()) -> Entries:
    """Entries of a feed: networks of both families, names, single addresses with a port."""
    rows = [(ipaddress.ip_network(net), 0) for net in nets] + [(ipaddress.ip_network(a), p) for a, p in ports]
    v4 = [(n, p) for n, p in rows if n.version == 4]
    v6 = [(n, p) for n, p in rows if n.version == 6]
    texts = list(names)

    def pairs(values: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        return np.array([(v >> 64, v & (2**64 - 1)) for v in values], np.uint64).reshape(-1, 2)

    return Entries(
        v4_first=np.array([int(n[0]) for n, _ in v4], np.uint32),
        v4_last=np.array([int(n[-1]) for n, _ in v4], np.uint32),
        v4_port=np.array([p for _, p in v4], np.uint16),
        v4_line=np.zeros(len(v4), np.uint32),
        v6_first=pairs([int(n[0]) for n, _ in v6]),
        v6_last=pairs([int(n[-1]) for n, _ in v6]),
        v6_port=np.array([p for _, p in v6], np.uint16),
        v6_line=np.zeros(len(v6), np.uint32),
        names=texts,
        name_line=np.zeros(len(texts), np.uint32),
    )


def made(serial: int, *feeds: tuple[Feed, Entries], created: int = 1) -> Base:
    base, _ = compile_entries([Input(f, e) for f, e in feeds], serial=serial, created=created)
    return base


def simple(serial: int, nets: Iterable[str] = (), names: Iterable[str] = ()) -> Base:
    return made(serial, (feed(), listed(nets, names)))


def opened(base: Base | bytes) -> BaseFile:
    return in_memory(pack_base(base) if isinstance(base, Base) else base, "made here")


def written(path: Path, base: Base) -> Path:
    path.write_bytes(pack_base(base))
    return path
