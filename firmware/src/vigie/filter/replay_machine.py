"""The real data path on private maps, asked for one decision at a time: what replay drives."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Final

from vigie.contract.codes import EventKind, InboundMode
from vigie.errors import BpfError
from vigie.filter import abi
from vigie.filter.base.image import ImagePlan
from vigie.filter.bpfcalls import lib
from vigie.filter.datapath import INGRESS_PROGRAM, DataPath
from vigie.filter.libbpf import skb_context
from vigie.filter.orientation import WAN_PORT, Orientation
from vigie.filter.replay_net import one_cpu, private_network

FOREVER_NS: Final = (1 << 63) - 1
FAST: Final = 2
"""`cached` of a frame that took the fast path: it reported nothing."""
_MTU: Final = 1500
_EMPTY_EVERY: Final = 100_000


class Machine:
    """A context manager; use from one thread. `path` is the data path, `events` and `held` its rings."""

    def __init__(self, object_path: Path, plan: ImagePlan, inbound: InboundMode, cpu: int | None = None) -> None:
        self._arguments = (object_path, plan, inbound, cpu)
        self._stack = contextlib.ExitStack()
        self._frames = 0

    def __enter__(self) -> Machine:
        object_path, plan, inbound, cpu = self._arguments
        with contextlib.ExitStack() as stack:
            cpu = stack.enter_context(one_cpu(cpu))
            ports = stack.enter_context(private_network())
            self.path = DataPath.open(object_path)
            stack.callback(self.path.close)
            self._set_up(ports, inbound)
            self.path.load_image(abi.KIND_BASE, plan)
            self.events = self.path.events()
            self.held = self.path.held()
            self._context = [skb_context(number) for number in ports]
            self._run = self.path.programs[INGRESS_PROGRAM].test_run
            # Read for each frame: the same buffers each time, where Map.lookup would make new ones.
            decision = self.path.maps["decision"]
            self._key = ctypes.byref(ctypes.c_uint32(0))
            self._values = ctypes.create_string_buffer(decision.value_bytes)
            self._lookup, self._fd = lib().bpf_map_lookup_elem, decision.fd
            self._at = cpu * ((abi.DECISION.itemsize + 7) // 8 * 8)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _set_up(self, ports: tuple[int, int], inbound: InboundMode) -> None:
        settings = self.path.settings
        with settings.batch():
            settings.set_ports(ports, (_MTU, _MTU))
            settings.set_wan_port(WAN_PORT)
            settings.set_inbound_mode(inbound)
            settings.set_hold(True)
            # A report per flow or stranger costs more than deciding it, and replay has no use for them.
            settings.set_event_rates(dict.fromkeys((EventKind.FLOW, EventKind.INBOUND, EventKind.MAC_MOVED), 0))
            for bit in (abi.F_NO_LIMITS, abi.F_TRACE, abi.F_RESOLVED):
                settings.set_feature(bit, True)
        # Held frames are handed over one by one: the worker is never silent.
        settings.record["heartbeat_ns"] = FOREVER_NS

    def begin(self, sides: Orientation) -> None:
        """A new LAN: nothing of the one before is known any more. Another key makes old openers unreachable."""
        settings = self.path.settings
        with settings.batch():
            settings.record["flow_seed"] = (int(settings.record["flow_seed"]) + 2) & 0xFFFF_FFFF_FFFF_FFFF
            settings.set_onlink(sides.onlink)
            settings.set_gateways(sides.gateways, sides.gateway_addresses)
            settings.bump()
        # Entries left behind are found no more under the new key; emptying the cache costs as much as 500 frames.
        if self._frames > _EMPTY_EVERY:
            self._frames = 0
            self.path.flows["tag"] = 0
        for table in ("macs", "resolved"):
            self.path.maps[table].clear()

    def decide(self, data: bytes, port: int) -> bytes:
        """(verdict, reason, anomaly, cached) of an Ethernet frame of 14 to MAX_TEST_FRAME bytes, one byte each.

        BpfError when the kernel refuses to run it.
        """
        self._frames += 1
        self._run(data, self._context[port], want_data=False)
        result = self._lookup(self._fd, self._key, self._values)
        if result:
            raise BpfError(f"map decision: errno {-result}", -result)
        at = self._at
        values: bytes = self._values.raw[at : at + 4]
        return values
