"""The `state` message, from what the filter and the machine say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vigie.contract.codes import InboundMode
from vigie.contract.firmware import FirmwareState
from vigie.contract.upward import ENTRIES_MAX, BaseInForce, DesiredInForce, State
from vigie.contract.words import Code, DesiredStatus, FilterHealth, Inbound


@dataclass(frozen=True, slots=True)
class Machine:
    """Figures of the machine."""

    uptime_s: int
    disk_free_mb: int
    mem_free_mb: int
    load: float


_INBOUND = {InboundMode.OFF: Inbound.OFF, InboundMode.LEARN: Inbound.LEARN, InboundMode.REFUSE: Inbound.REFUSE}


def state(
    session: int,
    software: str,
    status: dict[str, Any] | None,
    shown: dict[str, Any] | None,
    refused: Code | None,
    machine: Machine,
    firmware: FirmwareState | None = None,
) -> State:
    """The state of the box. status: the filter's, None when it does not answer; shown: its `department-show`; refused:
    why the latest order was refused; firmware: what `vigie update run` told last, None before its first order."""
    s = status or {}
    base = _dict(s, "base")
    version = _int(base, "version") or _int(base, "serial")
    entries = _int(base, "entries") or sum(_int(base, k) for k in ("v4", "v6", "names"))
    shown = shown or {}
    desired_version = _int(shown, "version")
    return State(
        session=session,
        version=software,
        base=BaseInForce(version, min(entries, ENTRIES_MAX)) if version else None,
        candidate=_int(s, "candidate") or None,
        desired=DesiredInForce(desired_version, _status(shown, desired_version), refused),
        isolation=min(_int(_dict(s, "isolation"), "level"), 3),
        quarantined=min(len(_list(s, "quarantine")), 100_000),
        exceptions=min(len(_list(s, "rules")), 100_000),
        inbound=_inbound(_int(_dict(s, "inbound"), "mode")),
        filter=FilterHealth.DOWN if status is None else health(_list(s, "problems")),
        uptime_s=machine.uptime_s,
        disk_free_mb=machine.disk_free_mb,
        mem_free_mb=machine.mem_free_mb,
        load=round(machine.load, 2),
        roles_known=any(_dict({"p": p}, "p").get("role") in ("lan", "wan") for p in _list(s, "ports")),
        losses=_int(_dict(s, "outbox"), "lost"),
        firmware=firmware,
    )


def health(problems: list[Any]) -> FilterHealth:
    """The filter's health from the problems it tells."""
    return FilterHealth.DEGRADED if problems else FilterHealth.OK


def key(state: State) -> tuple[object, ...]:
    """What is worth telling at once when it changes; the other figures wait for the next regular message."""
    return (
        state.base,
        state.candidate,
        state.desired,
        state.isolation,
        state.quarantined,
        state.exceptions,
        state.inbound,
        state.filter,
        state.roles_known,
        state.firmware,
    )


def _status(shown: dict[str, Any], version: int) -> DesiredStatus:
    word = shown.get("status")
    if version and word in tuple(DesiredStatus):
        return DesiredStatus(word)
    return DesiredStatus.NONE


def _inbound(mode: int) -> Inbound:
    return _INBOUND[InboundMode(mode)] if mode in tuple(InboundMode) else Inbound.OFF


def _dict(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    return value if isinstance(value, list) else []


def _int(data: dict[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
