"""The engine's parts that speak of and for the department: how each sees the rest of the filter."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from vigie.contract.codes import Action, DeviceClass
from vigie.errors import SourceError
from vigie.filter import abi, department_file
from vigie.filter.department import Orders
from vigie.filter.department_layer import FILE, Department, Surroundings
from vigie.filter.department_rules import ORDERED
from vigie.filter.journal import Attempt
from vigie.filter.local_policy import matching
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.reports import Reports, received_frames
from vigie.filter.service_clock import ServiceClock
from vigie.host.trusted_clock import boot_id

if TYPE_CHECKING:
    from vigie.filter.engine import Engine


def build_parts(engine: Engine) -> tuple[ServiceClock, Pseudonyms, Department, Reports]:
    """The clock in service, the pseudonyms, the department's orders and the reports, bound to an engine."""
    config = engine.config

    def trusted() -> tuple[float, bool]:
        time = engine.trusted_time()
        return time.unix_s, time.known

    def worded() -> tuple[float, str]:
        time = engine.trusted_time()
        return time.unix_s, time.word

    service = ServiceClock(config.state_dir / "service.json", engine.now, boot_id())
    pseudonyms = Pseudonyms(config.state_dir / "pseudonyms.json", service.at(engine.now))
    around = Surroundings(
        mono=lambda: engine.now,
        time=trusted,
        lookup=engine.base.lookup,
        protected=engine.protected_macs,
        devices=lambda: _devices(engine),
        spared=lambda: _spared(engine),
    )
    department = Department(config.state_dir, around, service, pseudonyms, _orders(engine))
    reports = Reports(
        engine.journal,
        pseudonyms,
        lookup=engine.base.lookup,
        device_class=lambda mac: _device_class(engine, mac),
        ordered=lambda attempt: _ordered(engine, attempt),
        time=worded,
        wall=engine.clock.wall_s,
        counters=engine.datapath.counters,
        frames=lambda: _frames(engine),
    )
    return service, pseudonyms, department, reports


def _orders(engine: Engine) -> Orders:
    path = engine.config.state_dir / FILE
    try:
        return department_file.load(path)
    except SourceError as e:
        engine.set_aside(path, e)
        return Orders()


def _devices(engine: Engine) -> Collection[str]:
    """MACs that the box has seen, the most recent source first."""
    keys = engine.datapath.maps["macs"].keys()
    seen = dict.fromkeys(abi.mac_text(abi.unpack(abi.MAC_KEY, key)["mac"].tobytes()) for key in keys)
    seen |= dict.fromkeys(abi.mac_text(use.mac) for use in engine.learning.uses)
    seen |= dict.fromkeys(q.mac for q in engine.policy.quarantine)
    return list(seen)


def _spared(engine: Engine) -> Iterable[str]:
    """Addresses that a protected name points to at present."""
    found = []
    for key, raw in engine.datapath.maps["resolved"].items():
        value = abi.unpack(abi.RESOLVED_VALUE, raw)
        if value["never"] and int(value["until_s"]) > engine.now:
            found.append(abi.address_text(key))
    return found


def _device_class(engine: Engine, mac: str) -> DeviceClass:
    raw = engine.datapath.maps["device_class"].lookup(abi.pack(abi.MAC_KEY, mac=abi.mac_bytes(mac)))
    if raw is None:
        return DeviceClass.NONE
    return DeviceClass(int(abi.unpack(abi.DEVICE_VALUE, raw)["class"]))


def _ordered(engine: Engine, attempt: Attempt) -> bool:
    """Whether it was an order of the department that blocked."""
    rules = engine.effective_policy().rules
    name = attempt.destination if attempt.destination != attempt.address else ""
    found = matching(rules, attempt.address, name.lower(), attempt.device)
    return next((r.origin == ORDERED for r in found if r.action is Action.BLOCK), False)


def _frames(engine: Engine) -> tuple[int, int] | None:
    if not engine.zones.known:
        return None
    wan, lan = engine.ports[engine.zones.wan_port], engine.ports[1 - engine.zones.wan_port]
    came, went = received_frames(wan), received_frames(lan)
    return (came, went) if came is not None and went is not None else None
