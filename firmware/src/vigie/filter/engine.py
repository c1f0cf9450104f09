"""The daemon's state and its reactions, without an event loop: what is seen comes in, the data path and journal follow.

Everything here runs in the thread that owns the data path. `daemon.py` feeds it and gives it time.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vigie.contract.codes import Action, EventKind, InboundMode
from vigie.errors import KernelError, SourceError
from vigie.filter import abi, learning, local_policy
from vigie.filter.base import lists
from vigie.filter.base.diff import Delta
from vigie.filter.base.model import FLAG_CANDIDATE
from vigie.filter.base_builder import BaseInfo
from vigie.filter.base_store import BaseStore, Prepared
from vigie.filter.config import Config
from vigie.filter.datapath import DataPath
from vigie.filter.engine_parts import build_parts
from vigie.filter.entries import EssentialPort, ExceptionEntry, InboundAllow, LocalName, Quarantine
from vigie.filter.journal import Attempt, Journal
from vigie.filter.local_policy import LocalPolicy, write_atomic
from vigie.filter.loop import BLOCKED_PORT, Change, LoopGuard
from vigie.filter.recorder import MacMoved, ProbeSeen, findings, is_onlink
from vigie.filter.surroundings import Surroundings
from vigie.filter.zones import Address, Alert, AlertKind, GatewaySeen, HostSeen, Link, Observation, Zones, inbound_mode
from vigie.host.clock import Clock
from vigie.host.net import PORT_DISABLED, PORT_FORWARDING, Net
from vigie.host.trusted_clock import ClockReader, Time

log = logging.getLogger("vigie.filter")

DAY_S = 86_400.0
LEARNING_SCAN_S = 4.0  # learning; afterwards only "last seen" depends on it
LATER_SCAN_S = 30.0
LEARNING_SAVE_S = 60.0
CLOCK_STEP_S = 2.0


class Engine:
    """State of the filter. `listener(attempt or alert)` is told what happens (for `watch`)."""

    def __init__(
        self, config: Config, datapath: DataPath, net: Net, journal: Journal, clock: Clock, ports: tuple[str, str]
    ) -> None:
        self.config = config
        self.datapath = datapath
        self.net = net
        self.journal = journal
        self.clock = clock
        self.ports = ports
        self.base = BaseStore(datapath)
        self.zones = Zones()
        self.guard = LoopGuard(int(config.loop.reopen_s * 1e9), started_ns=clock.mono_ns())
        self.policy = LocalPolicy()
        self.learning = learning.EMPTY
        self.seen: Surroundings | None = None
        self.problems: dict[str, str] = {}
        self.started = clock.mono_ns() / 1e9
        self.listener: Callable[[Attempt | Alert], None] = lambda _item: None
        self.look_again: Callable[[], None] = lambda: None
        self._offset = self.wall_minus_mono
        self._last_tick = self.started
        self._scan_at = self.started
        self._save_at = self.started + LEARNING_SAVE_S
        self.link_changed_at = 0.0
        self._trusted = ClockReader(config.box_state, config.run_dir, config.trust)
        self.candidate: int | None = None  # version of the base in force when it is a candidate
        self.service, self.pseudonyms, self.department, self.reports = build_parts(self)

    @property
    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return self.clock.mono_ns() / 1e9

    @property
    def wall_minus_mono(self) -> float:
        """Unix time minus CLOCK_MONOTONIC, in seconds."""
        return self.clock.wall_s() - self.clock.mono_ns() / 1e9

    def trusted_time(self) -> Time:
        """The time that signed messages are judged by, and dated with, and what it is worth."""
        return self._trusted.time()

    # ---- start -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Settings, local decisions, and the roles that an earlier daemon left in the data path."""
        settings, config = self.datapath.settings, self.config
        self.policy = self._load(local_policy.load, self.policy_file, LocalPolicy())
        self.learning = self._load(_load_learning, self.learning_file, learning.EMPTY)
        self._inherit_roles()
        with self.datapath.batch():
            settings.set_rates(config.rates.refuse_out, config.rates.refuse_in)
            settings.set_event_rates({EventKind[k.upper()]: rate for k, rate in config.rates.events.items()})
            settings.set_box_ports([(p.port, p.proto) for p in config.page_ports])
            settings.set_feature(abi.F_RESOLVED, True)
            if not config.loop.enabled:
                settings.set_probe_nonce(0)
            settings.set_loop_port(None)
            self.install_essential_ports()
            self.apply_policy()
            self.apply_learning()
        if config.inbound.grace_s and not self.zones.known:
            settings.set_grace(int(self.now) + config.inbound.grace_s)

    def _inherit_roles(self) -> None:
        """The roles in force stay until a gateway is confirmed: a restart must not open the inbound default."""
        control = self.datapath.control
        if int(control["wan_port"]) in (0, 1):
            self.zones.wan_port = int(control["wan_port"])
            # Cables may have been swapped while nobody looked.
            self.zones.went_down = {0, 1}
            addresses = tuple(_address(raw) for raw in control["gateway"][: int(control["gateway_count"])])
            for raw in control["gw_mac"]:
                if any(raw):
                    # Which address is whose is learnt again; until then the first MAC holds them all.
                    self.zones.gateways[raw[:6].tobytes()] = addresses
                    addresses = ()

    def install_essential_ports(self) -> None:
        """Services kept in isolation by their port."""
        try:
            services = lists.essential()
        except (SourceError, OSError) as e:
            self.problems["essential"] = str(e)
            return
        ranks: dict[tuple[int, int], int] = {}
        for service in services:
            for port in service.ports:
                ranks.setdefault((port.protocol, port.port), service.rank)
        rows = [EssentialPort(proto, port, rank) for (proto, port), rank in ranks.items()]
        self.datapath.tables.essential_ports.replace(rows)

    def close_parts(self) -> None:
        """Last rows for the department, and the clock in service."""
        self.reports.close(self.now)
        self.department.close()

    # ---- base --------------------------------------------------------------------------------------------------

    def install_base(self, prepared: Prepared) -> BaseInfo:
        """Puts a base into force; local rules on names follow when its hash key is another one."""
        with self.datapath.batch():
            self.base.install(prepared)
            self.apply_policy()
        self.problems.pop("lists", None)
        if prepared.info.problem:
            self.problems["lists"] = prepared.info.problem
        self._in_force(prepared.info)
        return prepared.info

    def patch_base(self, delta: Delta, info: BaseInfo) -> None:
        """Puts a base into force that differs from the running one by a delta. DeltaError, ImageError or BpfError leave
        the running one. Names keep their hashes, so local rules stay as they are."""
        self.base.patch(delta, self.department.lists_path, info)
        self._in_force(info)

    def _in_force(self, info: BaseInfo) -> None:
        self.candidate = info.serial if info.flags & FLAG_CANDIDATE else None
        self.reports.base_changed(self.candidate, self.now)
        self.problems.pop("base", None)
        log.info("base %d in force (%d IPv4, %d IPv6, %d names)", *_figures(info))

    # ---- what is seen ------------------------------------------------------------------------------------------

    def on_records(self, records: Iterable[bytes]) -> None:
        """Records of the events ring, or reports of the hold worker."""
        for finding in findings(records, self.wall_minus_mono):
            if isinstance(finding, Attempt):
                self.reports.attempt(finding, self.now)
                self.journal.add(finding)
                self.listener(finding)
            elif isinstance(finding, ProbeSeen):
                self.on_probe(finding.ns)
            elif isinstance(finding, MacMoved):
                if finding.mac in self.zones.gateways:
                    self.look_again()
            elif not isinstance(finding, HostSeen) or is_onlink(finding.address, self._onlink()):
                self.observe(finding)
        self.reports.flush()  # what is seen for the first time does not wait for the next second

    def _onlink(self) -> list[Any]:
        return self.seen.onlink if self.seen is not None else []

    def observe(self, seen: Observation) -> None:
        """One observation for the role machine; the data path follows when roles change."""
        before = (self.zones.wan_port, tuple(self.zones.gateways.items()))
        for alert in self.zones.step(seen):
            self.alert(alert)
        if before != (self.zones.wan_port, tuple(self.zones.gateways.items())):
            self.apply_roles()

    def alert(self, alert: Alert) -> None:
        """Journal, log, watchers."""
        log.log(logging.WARNING if alert.severity > 1 else logging.INFO, "%s port %d %s", *_alert_words(alert))
        self.journal.add_alert(alert, self.clock.wall_s())
        self.reports.zone_alert(alert, self.now)
        self.listener(alert)

    def on_surroundings(self, seen: Surroundings) -> bool:
        """A new look at links, addresses and gateways. True when a gateway is still to be confirmed."""
        now = self.now
        for link in seen.ports:
            self.on_carrier(link.index, link.carrier)
        settings = self.datapath.settings
        with self.datapath.batch():
            settings.set_ports([p.index for p in seen.ports], [p.mtu for p in seen.ports])
            settings.set_box_mac(seen.bridge.mac)
            settings.set_box_addresses([a.ip for a in seen.addresses][: abi.BOX_ADDR_MAX])
            settings.set_onlink(seen.onlink)
        self.seen = seen
        port = seen.ports[BLOCKED_PORT]
        if self.guard.blocked and port.port_state == PORT_FORWARDING:
            self._close_port()  # a link that went down and up forwards again
        elif not self.guard.blocked and port.carrier and port.port_state == PORT_DISABLED:
            self._set_port_state(True)  # closed by a daemon that was killed before it could open it
        waiting = not seen.gateways
        for address, mac in seen.gateways:
            behind = self._port_of(mac) if mac is not None else None
            if behind is None or mac is None:
                waiting = True
            else:
                self.observe(GatewaySeen(behind, mac, address, now))
        return waiting or not self.zones.known or bool(self.zones.went_down)

    def on_carrier(self, ifindex: int, carrier: bool) -> None:
        """Carrier of a port came or went."""
        indexes = self.datapath.control["ifindex"].tolist()
        if ifindex not in indexes or self.zones.link[port := indexes.index(ifindex)] == carrier:
            return
        if not carrier:
            # Where the gateways were seen before says nothing about where they are when the cable is back.
            for mac in self.zones.gateways:
                self.datapath.maps["macs"].delete(abi.pack(abi.MAC_KEY, mac=mac))
        self.link_changed_at = self.now
        self.observe(Link(port, carrier, self.now))
        self.look_again()

    def _port_of(self, mac: bytes) -> int | None:
        """The port behind which a MAC was last seen."""
        raw = self.datapath.maps["macs"].lookup(abi.pack(abi.MAC_KEY, mac=mac))
        return None if raw is None else int(abi.unpack(abi.MAC_VALUE, raw)["port"])

    def apply_roles(self) -> None:
        """Roles, gateways and inbound mode to the data path, as one epoch."""
        settings, zones = self.datapath.settings, self.zones
        with self.datapath.batch():
            settings.set_gateways(zones.gateway_macs(), zones.gateway_addresses())
            settings.set_inbound_mode(self.inbound_mode())
            settings.set_wan_port(zones.wan_port if zones.known else None)
            self.apply_policy()  # a gateway's quarantine is left out

    def inbound_mode(self) -> InboundMode:
        """The inbound default in force."""
        mode = self.department.inbound or self.config.inbound.mode
        return inbound_mode(mode, self.zones.known, self.learning_left_s())

    def learning_left_s(self) -> float:
        """What remains of the learning period."""
        return self.learning.left_s(self.config.inbound.learning_days * DAY_S)

    # ---- loop --------------------------------------------------------------------------------------------------

    def on_probe(self, ns: int) -> None:
        """The box's own probe came back."""
        self._loop(self.guard.seen(ns))

    def new_probe_nonce(self) -> int:
        """A nonce for the probes from now on; the data path knows no other."""
        nonce = secrets.randbits(64) or 1
        self.datapath.settings.set_probe_nonce(nonce)
        return nonce

    def check_loop(self) -> None:
        """Probes seen by the data path (events may be lost), and time."""
        self.on_probe(int(max(self.datapath.state["probe_seen_ns"])))
        self._loop(self.guard.tick(self.clock.mono_ns()))

    def _loop(self, change: Change | None) -> None:
        if change is None:
            return
        blocked = change is Change.BLOCK
        if blocked:
            self._close_port()
        else:
            self.datapath.settings.set_loop_port(None)
            self._set_port_state(True)
        self.alert(Alert(AlertKind.LOOP if blocked else AlertKind.LOOP_GONE, BLOCKED_PORT))

    def _close_port(self) -> None:
        """The bridge's port first: `loop_port` tells the data path that nothing leaves by it any more."""
        closed = self._set_port_state(False)
        self.datapath.settings.set_loop_port(BLOCKED_PORT if closed else None)

    def _set_port_state(self, forwarding: bool) -> bool:
        """The bridge's own state, for frames that the bridge forwards; the data path stops what comes in."""
        try:
            self.net.set_port_state(self.ports[BLOCKED_PORT], forwarding)
        except KernelError as e:
            log.warning("%s", e)
            return False
        return True

    # ---- local decisions ---------------------------------------------------------------------------------------

    @property
    def policy_file(self) -> Path:
        """Where local decisions are kept."""
        return self.config.state_dir / "policy.json"

    @property
    def learning_file(self) -> Path:
        """Where learnt ports are kept."""
        return self.config.state_dir / "learning.json"

    def _load(self, read: Callable[[Path], Any], path: Path, empty: Any) -> Any:
        try:
            return read(path)
        except SourceError as e:
            self.set_aside(path, e)
            return empty

    def set_aside(self, path: Path, error: SourceError) -> None:
        """A file of decisions that cannot be used: kept for whoever looks into it, begun anew."""
        aside = path.with_name(path.name + ".bad")
        with contextlib.suppress(OSError):
            path.replace(aside)
        self.problems[path.name] = f"{error}; set aside as {aside.name}"
        log.error("%s", error)

    def set_policy(self, policy: LocalPolicy, *, lift: bool = False) -> None:
        """Keeps and applies local decisions. OSError when they cannot be kept: nothing has changed then, unless it is
        a `lift`, which holds whatever the disk says."""
        try:
            write_atomic(self.policy_file, local_policy.dump(policy))
        except OSError:
            if lift:
                self.policy = policy
                self.apply_policy()
            raise
        self.policy = policy
        self.apply_policy()

    def protected_macs(self) -> dict[str, str]:
        """MACs that must not be put in quarantine."""
        found = {abi.mac_text(mac): "la passerelle" for mac in self.zones.gateways}
        if self.seen is not None:
            found[abi.mac_text(self.seen.bridge.mac)] = "le boîtier"
        return found

    def effective_policy(self) -> LocalPolicy:
        """The commune's decisions and the department's orders, merged."""
        return self.department.effective(self.policy, self.clock.wall_s())

    def apply_policy(self) -> None:
        """Local decisions and the department's orders to the tables."""
        protected = {abi.mac_bytes(mac) for mac in self.protected_macs()}
        compiled = local_policy.compile_policy(self.effective_policy(), self.clock.wall_s(), self.now, protected)
        tables, settings = self.datapath.tables, self.datapath.settings
        with self.datapath.batch():
            tables.exceptions.replace(
                ExceptionEntry(_network(r.address, r.bits), Action(r.action), r.mac, r.port, r.proto, r.until_s)
                for r in compiled.exceptions
            )
            if self.datapath.image_header() is not None:
                tables.local_names.replace(
                    LocalName(self.datapath.name_hash(r.name), Action(r.action), r.mac, r.until_s)
                    for r in compiled.names
                )
            tables.quarantine.replace(Quarantine(mac, until_s) for mac, until_s in compiled.quarantine)
            # While nobody knows which side is the LAN, answers of essential services look like traffic to one that
            # is no service: everything would be refused, telephones and alarms too. It begins with the roles.
            level = compiled.isolation_level if self.zones.known else min(compiled.isolation_level, 1)
            settings.set_isolation(level, compiled.isolation_until)
        self.reports.look_again()

    # ---- learning ----------------------------------------------------------------------------------------------

    def set_learning(self, state: learning.Learning) -> None:
        """Keeps and applies learnt ports."""
        self.learning = state
        self.apply_learning()
        self.save_learning()

    def save_learning(self) -> None:
        """Writes the file; a failure is a problem to show, not a reason to stop."""
        try:
            write_atomic(self.learning_file, learning.dump(self.learning))
        except OSError as e:
            self.problems["learning"] = f"{self.learning_file}: {e.strerror}"
        else:
            self.problems.pop("learning", None)

    def apply_learning(self) -> None:
        """Learnt ports and the inbound mode to the data path."""
        with self.datapath.batch():
            rows = [InboundAllow(u.mac, u.proto, u.port) for u in self.learning.allowed()]
            self.datapath.tables.inbound_allow.replace(rows)
            self.datapath.settings.set_inbound_mode(self.inbound_mode())

    def scan_uses(self) -> None:
        """Looks for published ports in use."""
        left = self.learning_left_s()
        uses: set[learning.Use] = set()
        for part in self.datapath.cache.chunks():
            uses |= learning.uses_in(part, self.zones.wan_port, int(self.now))
        self.datapath.release_cache()  # mapped again in 2 ms, and 32 MB less meanwhile
        state = self.learning.seen(uses, self.clock.wall_s(), left > 0 and self.config.inbound.mode == "learn")
        new = state.uses.keys() - self.learning.uses.keys()
        self.learning = state
        if new:
            log.info("published ports learnt: %s", ", ".join(u.text for u in new))
            self.set_learning(state)

    # ---- time --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second or so: expiries, learning, a clock that was set."""
        now = self.now
        swept = self.policy.swept(self.clock.wall_s())
        if swept is not self.policy:
            with contextlib.suppress(OSError):
                self.set_policy(swept)
        stepped = abs(self.wall_minus_mono - self._offset) > CLOCK_STEP_S
        if stepped:
            self._offset = self.wall_minus_mono
        if self.department.tick() or stepped:
            self.apply_policy()  # ends are wall-clock times: their monotonic instants may have moved
        if self.pseudonyms.turn(self.service.at(now)):
            self.reports.names_changed(now)
        self.reports.tick(now)
        self.datapath.tables.dynamic.expire(int(now))
        if self.zones.known:
            self._learn(now)
        if now >= self._save_at:
            self._save_at = now + LEARNING_SAVE_S
            self.save_learning()
        self._last_tick = now

    def _learn(self, now: float) -> None:
        """Learning time goes by; its end is kept at once: a restart must not open the inbound default again."""
        gone = now - self._last_tick
        left = self.learning_left_s()
        ends = 0 < left <= gone
        if ends or now >= self._scan_at:
            often = min(LEARNING_SCAN_S, self.config.inbound.learning_days * DAY_S / 10)
            self._scan_at = now + (often if left > 0 else LATER_SCAN_S)
            self.scan_uses()
        self.learning = self.learning.advanced(gone)
        if ends:
            self.save_learning()
        if int(self.datapath.control["inbound_mode"]) != int(self.inbound_mode()):
            self.apply_learning()


def _load_learning(path: Path) -> learning.Learning:
    try:
        with path.open("rb") as stream:
            return learning.parse(stream.read(local_policy.FILE_MAX), path)
    except FileNotFoundError:
        return learning.EMPTY
    except OSError as e:
        raise learning.LearningFileError(path, None, f"cannot be read ({e.strerror})") from e


def _address(raw: Any) -> Address:
    return ipaddress.ip_address(abi.address_text(raw.tobytes()))


def _network(address: bytes, bits: int) -> str:
    if address.startswith(abi.MAPPED_PREFIX) and bits >= 96:
        return f"{abi.address_text(address)}/{bits - 96}"
    return f"{abi.address_text(address)}/{bits}"


def _figures(info: BaseInfo) -> tuple[int, int, int, int]:
    return info.serial, info.v4, info.v6, info.names


def _alert_words(alert: Alert) -> tuple[str, int, str]:
    return alert.kind.value, alert.port, f"{alert.mac.hex(':')} {alert.address}".strip()
