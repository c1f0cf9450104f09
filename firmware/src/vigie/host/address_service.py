"""`vigie address run`: puts the address of `host.addressing` on the bridge. Needs CAP_NET_ADMIN and nothing else.

An address is asked for before it is taken: the kernel sends an ARP probe (RFC 5227: sender 0.0.0.0) when a neighbour
entry is to be used on a bridge without an address. What is added is written down first, so that it is found and
removed after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import signal
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, Final

from vigie.errors import HostError, LinkError
from vigie.host import addressing
from vigie.host.addressing import DHCP, AddressError, Fixed, Own, Seen
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import read_json, remove, write_atomic, write_json
from vigie.host.monitor import Monitor, What
from vigie.host.net import Link, Net
from vigie.host.netlink import converse
from vigie.host.systemd import Watchdog, notify

log = logging.getLogger("vigie.address")

TURN_S: Final = 1.0
PROBES: Final = 3
PROBE_S: Final = 0.6
AGAIN_S: Final = 30.0
"""An address that somebody else has is tried again after this."""
METRIC: Final = 50
"""Of the default route of a fixed address: before one that DHCP left behind."""
RESOLV: Final = "resolv.conf"
_CHANGES: Final = frozenset({What.LINK, What.ADDRESS, What.OVERFLOW})
_NTF_USE: Final = 1
_SCOPE_LINK: Final = 253
_TURNS_MAX: Final = 10


class Service:
    """The bridge's addresses. `turn` looks once and changes what is wrong."""

    def __init__(self, config: BoxConfig, net: Net | None = None, probe_s: float = PROBE_S) -> None:
        self._config = config
        self._net = net or Net()
        self._probe_s = probe_s
        self._since = time.monotonic()
        self._was_usable = False
        self._own = self._remembered()
        self._problem = ""
        self._refused: Fixed | None = None
        self._refused_at = 0.0
        self._said: dict[str, Any] = {}

    def run(self) -> int:
        """Until SIGTERM or SIGINT; its exit code."""
        read, write = socket.socketpair()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_frame: write.send(b"."))
        with read, write, contextlib.closing(Monitor()) as monitor:
            notify("READY=1")
            watchdog = Watchdog()
            while True:
                watchdog.turn()
                try:
                    self.turn()
                except (HostError, LinkError) as e:
                    log.error("%s", e)
                if read.fileno() in select.select([read.fileno(), monitor.fileno()], [], [], TURN_S)[0]:
                    return 0
                if any(change.what in _CHANGES for change in monitor.pending()):
                    time.sleep(0.1)  # changes come in bursts

    def turn(self) -> None:
        """One look. Raises HostError or LinkError; the next turn tries again."""
        link = self._net.link(self._config.bridge)
        seen = self._look(link)
        now = time.monotonic()
        if addressing.usable(seen) != self._was_usable:
            self._was_usable, self._since = not self._was_usable, now
        wish = self._wish()
        target = addressing.target(wish, seen, self._own, now - self._since)
        again = target.fixed != self._refused or now - self._refused_at > AGAIN_S
        if target.fixed != self._own.fixed and (target.fixed is None or again):
            self._set_fixed(link, seen, target.fixed)
        if target.link_local and self._own.link_local is None:
            self._take_link_local(link)
        elif not target.link_local and self._own.link_local is not None:
            self._drop(link, self._own.link_local)
            self._keep(Own(self._own.fixed, None))
        self._restore(link, self._look(link))
        self._report(link)

    # -- looking

    def _look(self, link: Link) -> Seen:
        found = self._net.addresses(link.index)
        return Seen(frozenset(a for a in found if isinstance(a, IPv4Interface)), link.carrier)

    def _wish(self) -> Fixed | None:
        value = read_json(addressing.request_path(self._config.paths)) or DHCP
        try:
            return addressing.parse_json(value)
        except AddressError as e:
            self._problem = str(e)
            return None

    # -- changing

    def _set_fixed(self, link: Link, seen: Seen, wish: Fixed | None) -> None:
        if wish is not None and wish.address not in seen.addresses and link.carrier:
            other = self._occupied(link, wish.address.ip)
            if other:
                self._problem, self._refused, self._refused_at = "conflict", wish, time.monotonic()
                log.warning("%s: %s has it already", wish.address.ip, other)
                return
        self._problem, self._refused = "", None
        before = self._own.fixed
        self._keep(Own(wish, self._own.link_local))
        if before is not None:
            self._no_route(link, before.gateway)
            if wish is None or wish.address != before.address:
                self._drop(link, before.address)
        if wish is None:
            remove(self._config.paths.run_address / RESOLV)
            return
        self._add(link, wish.address)
        write_atomic(self._config.paths.run_address / RESOLV, addressing.resolv(wish.dns).encode())
        log.info("fixed address %s, gateway %s", wish.address, wish.gateway)

    def _restore(self, link: Link, seen: Seen) -> None:
        """What should be there and is not: a bridge that was made anew, a route that went with its link."""
        fixed = self._own.fixed
        for address in (None if fixed is None else fixed.address, self._own.link_local):
            if address is not None and address not in seen.addresses:
                self._add(link, address)
        if fixed is None or not link.up:
            return
        routes = [r for r in self._net.default_routes() if r.ifindex == link.index and r.metric == METRIC]
        if not any(r.gateway == fixed.gateway for r in routes):
            converse(
                f"default route by {fixed.gateway}",
                lambda ip: ip.route(
                    "replace", dst="default", gateway=str(fixed.gateway), oif=link.index, priority=METRIC
                ),
            )

    def _take_link_local(self, link: Link) -> None:
        for turn in range(_TURNS_MAX):
            address = addressing.link_local(link.mac, turn)
            if not self._occupied(link, address.ip):
                self._keep(Own(self._own.fixed, address))
                self._add(link, address)
                log.info("link-local address %s", address)
                return
        log.error("%s: %d link-local addresses are all taken", link.name, _TURNS_MAX)

    def _add(self, link: Link, address: IPv4Interface) -> None:
        scope = _SCOPE_LINK if address.ip in addressing.LINK_LOCAL else 0
        converse(
            f"address {address}",
            lambda ip: ip.addr(
                "replace",
                index=link.index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                broadcast=str(address.network.broadcast_address),
                scope=scope,
            ),
        )

    def _drop(self, link: Link, address: IPv4Interface) -> None:
        with _gone():
            converse(
                f"removing {address}",
                lambda ip: ip.addr(
                    "del", index=link.index, address=str(address.ip), prefixlen=address.network.prefixlen
                ),
            )

    def _no_route(self, link: Link, gateway: IPv4Address) -> None:
        with _gone():
            converse(
                f"removing the route by {gateway}",
                lambda ip: ip.route("del", dst="default", gateway=str(gateway), oif=link.index, priority=METRIC),
            )

    def _occupied(self, link: Link, address: IPv4Address) -> str:
        """MAC of the machine that has an address already, "" when none answers three probes."""
        try:
            for _probe in range(PROBES):
                converse(
                    f"probing {address}",
                    lambda ip: ip.neigh("replace", dst=str(address), ifindex=link.index, state=0, flags=_NTF_USE),
                )
                time.sleep(self._probe_s)
                mac = self._net.neighbour_mac(link.index, address)
                if mac is not None and mac != link.mac:
                    return mac.hex(":")
            return ""
        finally:
            with _gone():
                converse(f"forgetting {address}", lambda ip: ip.neigh("del", dst=str(address), ifindex=link.index))

    # -- remembering and telling

    def _keep(self, own: Own) -> None:
        """Before it is done: a crash leaves too much written down, never too little."""
        self._own = own
        self._write()

    def _remembered(self) -> Own:
        value = read_json(addressing.report_path(self._config.paths)) or {}
        fixed: Fixed | None = None
        own_local: IPv4Interface | None = None
        with contextlib.suppress(AddressError, TypeError):
            fixed = addressing.parse_json(value["fixed"]) if value.get("fixed") else None
        with contextlib.suppress(ValueError):
            own_local = IPv4Interface(str(value["link_local"])) if value.get("link_local") else None
        return Own(fixed, own_local)

    def _report(self, link: Link) -> None:
        said = {"problem": self._problem, "addresses": [str(a) for a in self._net.addresses(link.index)]}
        if said != self._said:
            self._said = said
            self._write()

    def _write(self) -> None:
        own = self._own
        write_json(
            addressing.report_path(self._config.paths),
            {
                "v": 1,
                "fixed": None if own.fixed is None else own.fixed.to_json(),
                "link_local": None if own.link_local is None else str(own.link_local),
                **self._said,
            },
        )


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    """What is to be removed may be gone already."""
    try:
        yield
    except LinkError as e:
        if e.errno not in (errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT, errno.ENODEV):
            raise
