"""The files of the firmware part, below `<state>/update/firmware` and `<run>/update`: small, atomic, each with one use.

record.json   where it stands              floor.json   the floor once more: it must not fall when the record is lost
week.json     hours in which this box is on and busy
firmware.json (run) what page, link and guardian may know
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any, Final

from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.firmware import NO_RELEASE, FirmwareOrder, FirmwareState, Version, parse_version
from vigie.errors import HostError
from vigie.host.boxconfig import Paths
from vigie.host.files import read_json, write_json

from .record import Record, readable
from .week import Week

log = logging.getLogger("vigie.firmware")

RECORD: Final = "record.json"
FLOOR: Final = "floor.json"
WEEK: Final = "week.json"
STATUS: Final = "firmware.json"


class Store:
    """Reading what is spoilt gives what is safe: an order that is looked at again, a floor that does not fall."""

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.update / "firmware"
        self._status = paths.run_update / STATUS
        self._settings = paths.link / "settings.json"

    def load(self) -> Record:
        """The record; its floor is the higher of the two that are kept. HostError when nothing can be read."""
        record = readable(read_json(self.folder / RECORD))
        floor = _floor(read_json(self.folder / FLOOR))
        if record is None:
            return Record(floor=floor)
        return record if record.floor >= floor else replace(record, floor=floor)

    def save(self, record: Record) -> None:
        """On the disk before this returns; a floor that rises first. HostError."""
        if record.floor > _floor(read_json(self.folder / FLOOR)):
            write_json(self.folder / FLOOR, {"v": 1, "floor": str(record.floor)})
        write_json(self.folder / RECORD, record.to_dict())

    def week(self) -> Week:
        """Hours as learned so far."""
        data = read_json(self.folder / WEEK)
        return Week.from_dict(data) if data is not None else Week()

    def save_week(self, week: Week) -> None:
        """HostError."""
        write_json(self.folder / WEEK, week.to_dict())

    def ordered(self) -> tuple[FirmwareOrder | None, tuple[tuple[int, int, int], ...]]:
        """The order in force and the opening hours (day, from, to; minutes of local time), as the link wrote them down.
        HostError or MessageError when they cannot be read: that is no withdrawal."""
        data = read_json(self._settings)
        if data is None:
            return None, ()
        f = Fields("settings", data)
        order = FirmwareOrder.read(f.object("firmware")) if f.has("firmware") else None
        hours = []
        if f.has("hours"):
            for one in f.objects("hours", 64):
                hours.append((one.integer("day", 0, 6), one.integer("from", 0, 1440), one.integer("to", 0, 1440)))
        return order, tuple(hours)

    def tell(self, record: Record, more: dict[str, Any]) -> None:
        """What others may know. A full tmpfs is no reason to stop."""
        try:
            write_json(self._status, {"v": 1, "state": record.told().fields(), **more})
        except HostError as e:
            log.error("%s", e)


def told(paths: Paths) -> FirmwareState | None:
    """For the link: what the firmware part last told, None before its first order or when it is not there."""
    with contextlib.suppress(HostError, ContractError):
        data = read_json(paths.run_update / STATUS)
        if data is not None:
            state = FirmwareState.from_fields(Fields("firmware", data.get("state")))
            return state if state.order else None
    return None


def shown(paths: Paths) -> dict[str, Any] | None:
    """The whole status, for `vigie update status`; None when the service has not written one since the start."""
    with contextlib.suppress(HostError):
        return read_json(paths.run_update / STATUS)
    return None


def _floor(data: dict[str, Any] | None) -> Version:
    with contextlib.suppress(ContractError, TypeError):
        return parse_version(str((data or {}).get("floor", "")))
    return NO_RELEASE
