"""The `control` record: everything the data path is told that is not a table. Setters check, then write in place.

The record is read by running programs: each field is stored as one aligned word, and lists are written so that a
program sees at every instant a prefix of entries that are all valid. Setters that change a decision bump the policy
epoch, so that cached verdicts are taken again; inside `batch()` that happens once, at the end.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import EventKind, InboundMode
from vigie.errors import LayoutError, UsageError
from vigie.filter import abi
from vigie.filter.libbpf import Map, fence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOLD_MS_MAX: Final = 300
GRACE_S: Final = 120
DEFAULT_RATES: Final = (1000, 100)
DEFAULT_EVENT_RATE: Final = 500


def now_s() -> int:
    """Whole seconds of CLOCK_MONOTONIC: the clock of every `*_s` field."""
    return time.monotonic_ns() // 1_000_000_000


class Control:
    """Typed access to `control`. `record` is the numpy record on the shared memory."""

    def __init__(self, control: Map) -> None:
        if control.value_size != abi.CONTROL.itemsize:
            raise LayoutError(f"map control has {control.value_size} bytes, this program's {abi.CONTROL.itemsize}")
        self._array: npt.NDArray[np.void] = np.frombuffer(control.mmap(), dtype=abi.CONTROL, count=1)
        self.record: np.void = self._array[0]
        self._depth = 0
        self._dirty = False
        layout = int(self.record["layout"])
        if layout == 0:
            self._start()
        elif layout != abi.LAYOUT_VERSION:
            raise LayoutError(f"the control map is of layout {layout}, this program of {abi.LAYOUT_VERSION}")
        if not int(self.record["flow_seed"]):  # keys the flow hash: changed later, every flow would be lost
            self.record["flow_seed"] = secrets.randbits(64) | 1

    def _start(self) -> None:
        r = self.record
        r["wan_port"] = -1
        r["hold_ms"] = HOLD_MS_MAX
        r["rate_out"], r["rate_in"] = DEFAULT_RATES
        r["event_rate"] = [DEFAULT_EVENT_RATE] * len(r["event_rate"])
        r["gen"] = abi.gen_join(1, 0, 0)
        fence()
        r["layout"] = abi.LAYOUT_VERSION

    # -- epoch

    @property
    def gen(self) -> int:
        """Generation word, which is the policy epoch."""
        return int(self.record["gen"])

    def set_gen(self, gen: int) -> None:
        """Publish a generation word: one store, after everything written before it."""
        fence()
        self.record["gen"] = gen

    def bump(self) -> None:
        """New policy epoch: every cached verdict is taken again at the flow's next packet."""
        if self._depth:
            self._dirty = True
            return
        counter, geo, base = abi.gen_parts(self.gen)
        self.set_gen(abi.gen_join(counter + 1, geo, base))

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Many changes, one new epoch at the end (also when one of them failed: the others are in force)."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._dirty:
                self._dirty = False
                self.bump()

    def _set(self, field: str, value: int, *, decides: bool = True) -> None:
        if int(self.record[field]) != value:
            self.record[field] = value
            if decides:
                self.bump()

    # -- features

    @property
    def features(self) -> int:
        """The F_* bits."""
        return int(self.record["features"])

    def set_feature(self, bit: int, on: bool) -> None:
        """Turn one F_* bit on or off; a change is a new epoch."""
        value = self.features | bit if on else self.features & ~bit
        self._set("features", value)

    # -- the box and its ports

    def set_ports(self, ifindex: Sequence[int], mtu: Sequence[int]) -> None:
        """Port 0 and port 1: kernel number and MTU (bytes of payload)."""
        if len(ifindex) != 2 or len(mtu) != 2 or ifindex[0] == ifindex[1] or min(ifindex) < 1:
            raise UsageError(f"two different interfaces are needed, not {list(ifindex)}")
        if min(mtu) < 68 or max(mtu) > 65535:
            raise UsageError(f"an MTU is between 68 and 65535, not {list(mtu)}")
        if self.record["ifindex"].tolist() != list(ifindex) or self.record["mtu"].tolist() != list(mtu):
            self.record["mtu"][:] = mtu
            self.record["ifindex"][:] = ifindex
            self.bump()

    def set_wan_port(self, port: int | None) -> None:
        """Which port leads to the internet: 0, 1, or None while unknown."""
        if port not in (0, 1, None):
            raise UsageError(f"the WAN port is 0, 1 or unknown, not {port}")
        self._set("wan_port", -1 if port is None else port)

    def set_box_mac(self, mac: bytes | str) -> None:
        """MAC of br0."""
        self._bytes("box_mac", abi.mac_bytes(mac) + bytes(2))

    def set_gateways(self, macs: Iterable[bytes | str], addresses: Iterable[Any]) -> None:
        """MACs (at most 2) and on-link addresses (at most 4) of the default gateways."""
        raw = [abi.mac_bytes(m) + bytes(2) for m in macs]
        if len(raw) > 2:
            raise UsageError(f"at most 2 gateway MACs, not {len(raw)}")
        self._bytes("gw_mac", b"".join(raw).ljust(16, b"\0"))
        self._list("gateway", "gateway_count", [abi.address_bytes(a) for a in addresses], abi.ADDR_KEY, bytes(16))

    def set_onlink(self, networks: Iterable[str | Network]) -> None:
        """Prefixes of the LAN, at most 8; host bits are cleared."""
        entries = []
        for item in networks:
            net = ipaddress.ip_network(item, strict=False) if isinstance(item, str) else item
            raw, bits = abi.prefix_bits(net)
            entries.append(raw + abi.mask_bytes(bits))
        # An unused entry must match nothing: all mask bits, the zero address.
        self._list("onlink", "onlink_count", entries, abi.PREFIX, bytes(16) + b"\xff" * 16)

    def set_box_addresses(self, addresses: Iterable[Any]) -> None:
        """Addresses of br0, at most 8."""
        self._list("box_addr", "box_addr_count", [abi.address_bytes(a) for a in addresses], abi.ADDR_KEY, bytes(16))

    def set_box_ports(self, ports: Iterable[tuple[int, int]]) -> None:
        """(port, IP protocol) pairs of the box open to on-link LAN sources, at most 8."""
        entries = []
        for port, proto in ports:
            if not 0 < port < 65536 or proto not in (6, 17):
                raise UsageError(f"port {port} of protocol {proto}: a TCP (6) or UDP (17) port is needed")
            entries.append(abi.pack(abi.BOX_PORT, port=port, proto=proto))
        self._list("box_port", "box_port_count", entries, abi.BOX_PORT, bytes(4))

    def _bytes(self, field: str, raw: bytes) -> None:
        if self.record[field].tobytes() != raw:
            self.record[field] = np.frombuffer(raw, dtype=np.uint8).reshape(self.record[field].shape)
            self.bump()

    def _list(self, field: str, count: str, entries: list[bytes], dtype: np.dtype[np.void], unused: bytes) -> None:
        target = self.record[field]
        room = len(target)
        entries = list(dict.fromkeys(entries))
        if len(entries) > room:
            raise UsageError(f"{field}: {len(entries)} entries, the data path holds {room}")
        raw = b"".join([*entries, *[unused] * (room - len(entries))])
        old = int(self.record[count])
        if target.tobytes() == raw and old == len(entries):
            return
        # Shorter: the count first, so that no program reads an entry that is being emptied. Longer: the count last.
        self.record[count] = min(old, len(entries))
        fence()
        item = np.frombuffer(raw, dtype=dtype)
        target[:] = item if target.dtype == dtype else item.view(np.uint8).reshape(target.shape)
        fence()
        self.record[count] = len(entries)
        self.bump()

    # -- policy

    def set_inbound_mode(self, mode: InboundMode) -> None:
        """What happens to unsolicited inbound traffic."""
        self._set("inbound_mode", int(InboundMode(mode)))

    def set_isolation(self, level: int, until_s: int = 0) -> None:
        """Isolation level 0..3; levels 2 and 3 hold until `until_s` (CLOCK_MONOTONIC seconds)."""
        if level not in range(4):
            raise UsageError(f"an isolation level is 0, 1, 2 or 3, not {level}")
        if not 0 <= until_s <= abi.FOREVER:
            raise UsageError(f"isolation cannot end at {until_s}")
        with self.batch():
            self._set("isolation_until", until_s)
            self._set("isolation_level", level)

    def set_grace(self, until_s: int) -> None:
        """Until then unsolicited inbound passes; 0 ends it."""
        self._set("grace_until", until_s)

    def set_loop_port(self, port: int | None) -> None:
        """Block this port (both cables are in one switch), or none. Decided before the cache: no new epoch."""
        if port not in (0, 1, None):
            raise UsageError(f"a port is 0 or 1, not {port}")
        self._set("loop_port", 0 if port is None else port + 1, decides=False)

    def set_probe_nonce(self, nonce: int) -> None:
        """What the box's own loop probes carry."""
        self._set("probe_nonce", nonce, decides=False)

    # -- names held back

    def set_hold(self, on: bool, ms: int = HOLD_MS_MAX) -> None:
        """Have first frames without a readable server name handed up, each for at most `ms`. Needs `heartbeat`."""
        if not 1 <= ms <= HOLD_MS_MAX:
            raise UsageError(f"frames are held 1 to {HOLD_MS_MAX} ms, not {ms}")
        self._set("hold_ms", ms, decides=False)
        if on:
            self.heartbeat()
        self.set_feature(abi.F_HOLD, on)

    def heartbeat(self) -> None:
        """Say that the daemon is alive; every 100 ms while F_HOLD, else held frames are let through."""
        self.record["heartbeat_ns"] = time.monotonic_ns()

    # -- limits

    def set_rates(self, out: int, inward: int) -> None:
        """Refusals told to the LAN side and to the internet side, per second and CPU."""
        for value in (out, inward):
            if not 0 <= value <= 1_000_000:
                raise UsageError(f"a rate is 0 to 1000000 per second, not {value}")
        self._set("rate_out", out, decides=False)
        self._set("rate_in", inward, decides=False)

    def set_event_rates(self, rates: Mapping[EventKind, int]) -> None:
        """Events per second and CPU of these kinds; 0 = none. Kinds not named keep theirs."""
        for kind, rate in rates.items():
            if not 0 <= rate <= 10_000_000:
                raise UsageError(f"rate of events {kind.name.lower()}: 0 to 10000000 per second, not {rate}")
            self.record["event_rate"][int(kind)] = rate
