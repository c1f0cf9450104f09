"""The small tables of the data path, typed: what is in them, adding, removing, expiry.

Each table knows its entries as frozen dataclasses. A change keeps the `features` bits right (a table that holds nothing
is not looked up) and begins a new policy epoch, once per call or once per `DataPath.batch()`. The daemon is the only
writer. Times `until_s` are seconds of CLOCK_MONOTONIC, `FOREVER` for no end.
"""

from __future__ import annotations

import builtins
import errno
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from vigie.errors import BpfError
from vigie.filter import abi
from vigie.filter.control import Control
from vigie.filter.entries import (
    TCP,
    UDP,
    ClassPolicy,
    Device,
    Dynamic,
    Entry,
    EssentialPort,
    ExceptionEntry,
    InboundAllow,
    LocalName,
    Quarantine,
)
from vigie.filter.libbpf import Map

__all__ = [
    "TCP", "UDP", "ClassPolicy", "Device", "Dynamic", "EssentialPort", "ExceptionEntry", "InboundAllow", "LocalName",
    "Quarantine", "Table", "TableFullError", "Tables",
]  # fmt: skip

E = TypeVar("E", bound=Entry)


class TableFullError(BpfError):
    """A table has no room; nothing of the call was added."""


class Table(Generic[E]):
    """One table. Entries with the same key replace each other."""

    def __init__(self, table: Map, entry_type: Any, control: Control, feature: int) -> None:
        self.name = table.name
        self._map = table
        self._parse: Any = entry_type.parse
        self._control = control
        self._feature = feature
        self.on_change: Callable[[], None] | None = None
        self._keys = set(table.keys())  # what an earlier daemon left
        self.refresh_feature()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def capacity(self) -> int:
        """How many entries it can hold."""
        return self._map.max_entries

    def refresh_feature(self) -> None:
        """Bring the features bit in line with the content: the data path looks into a table only when told so."""
        if self._feature:
            self._control.set_feature(self._feature, bool(self._keys))
        if self.on_change is not None:
            self.on_change()

    def add(self, *entries: E) -> None:
        """Add or replace. TableFullError, or UsageError for a bad entry: then nothing was written."""
        self.add_all(entries)

    def add_all(self, entries: Iterable[E]) -> None:
        """Add or replace many; see `add`."""
        new = {entry.key(): entry.value() for entry in entries}
        if not new:
            return
        fresh = new.keys() - self._keys
        if len(self._keys) + len(fresh) > self.capacity:
            self._keys = set(self._map.keys())  # an LRU table may have dropped some by itself
            fresh = new.keys() - self._keys
        if len(self._keys) + len(fresh) > self.capacity:
            raise TableFullError(
                f"table {self.name} is full: {len(self._keys)} of {self.capacity} entries, {len(fresh)} more do not "
                "fit; remove some that are no longer needed",
                errno.E2BIG,
            )
        with self._control.batch():
            self._control.bump()
            for key, value in new.items():
                self._map.update(key, value)
                self._keys.add(key)
            self.refresh_feature()

    def remove(self, *entries: E) -> int:
        """Take entries out by their key (the value does not matter); how many were there."""
        return self._remove_keys([entry.key() for entry in entries])

    def _remove_keys(self, keys: Iterable[bytes]) -> int:
        removed = 0
        with self._control.batch():
            for key in keys:
                removed += self._map.delete(key)
                self._keys.discard(key)
            if removed:
                self._control.bump()
            self.refresh_feature()
        return removed

    def list(self) -> builtins.list[E]:
        """What the kernel holds, expired entries included, in the order of their keys."""
        items = sorted(self._map.items())
        self._keys = {key for key, _ in items}
        return [self._parse(key, value) for key, value in items]

    def clear(self) -> int:
        """Empty it; how many there were."""
        self._keys |= set(self._map.keys())
        return self._remove_keys(tuple(self._keys))

    def replace(self, entries: Iterable[E]) -> None:
        """Make the content exactly `entries`, touching only what differs; one new epoch, none when nothing does."""
        wanted = {entry.key(): entry for entry in entries}
        if len(wanted) > self.capacity:
            raise TableFullError(
                f"table {self.name} holds {self.capacity} entries, {len(wanted)} are wanted", errno.E2BIG
            )
        have = dict(self._map.items())
        self._keys = set(have)
        with self._control.batch():
            self._remove_keys(have.keys() - wanted.keys())
            self.add_all(e for key, e in wanted.items() if have.get(key) != e.value())

    def expire(self, now_s: int) -> builtins.list[E]:
        """Remove entries whose end is past, and return them. No new epoch: to the data path they were gone already."""
        old = [e for e in self.list() if getattr(e, "until_s", abi.FOREVER) <= now_s]
        for entry in old:
            key = entry.key()
            self._map.delete(key)
            self._keys.discard(key)
        if old:
            self.refresh_feature()
        return old


class Tables:
    """All tables of a data path: `Tables(datapath.maps, datapath.settings)`."""

    def __init__(self, maps: dict[str, Map], control: Control) -> None:
        self._control = control
        self.exceptions: Table[ExceptionEntry] = Table(maps["exceptions"], ExceptionEntry, control, abi.F_EXCEPTIONS)
        self.local_names: Table[LocalName] = Table(maps["local_names"], LocalName, control, abi.F_LOCAL_NAMES)
        self.quarantine: Table[Quarantine] = Table(maps["quarantine"], Quarantine, control, abi.F_QUARANTINE)
        self.dynamic: Table[Dynamic] = Table(maps["dynamic"], Dynamic, control, abi.F_DYNAMIC)
        self.inbound_allow: Table[InboundAllow] = Table(
            maps["inbound_allow"], InboundAllow, control, abi.F_INBOUND_ALLOW
        )
        self.class_policy: Table[ClassPolicy] = Table(maps["class_policy"], ClassPolicy, control, abi.F_CLASS_POLICY)
        # No bit of their own: F_CLASS_POLICY asks for classes, F_ESSENTIAL for the ranks of both tables.
        self.device_class: Table[Device] = Table(maps["device_class"], Device, control, 0)
        self.essential_ports: Table[EssentialPort] = Table(maps["essential_ports"], EssentialPort, control, 0)
        self.device_class.on_change = self.essential_ports.on_change = self._refresh_essential
        self._refresh_essential()

    def _refresh_essential(self) -> None:
        ranked = len(self.essential_ports) or any(d.essential_rank for d in self.device_class.list())
        self._control.set_feature(abi.F_ESSENTIAL, bool(ranked))

    def expire(self, now_s: int) -> dict[str, int]:
        """Remove what has ended from every table; name -> how many, where not zero."""
        tables: tuple[Table[Any], ...] = (
            self.exceptions, self.local_names, self.quarantine, self.dynamic, self.inbound_allow,
        )  # fmt: skip
        counts = {table.name: len(table.expire(now_s)) for table in tables}
        return {name: count for name, count in counts.items() if count}
