"""The data path in the kernel, one frame at a time: a Policy written into its maps, frames run by BPF_PROG_RUN.

`Kernel` holds a private instance of the object (nothing pinned, nothing attached) and two veth ports in a network
namespace of their own, so that the interface numbers of the frames are real ones. The thread stays in that namespace,
on one CPU, until `close`.

Time: a Policy speaks of the model's clock, which starts at `start`; the kernel has only its own. `advance` makes
everything stored older instead of moving a clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.policies import FOREVER, PK_COUNTRY, Policy, intervals, mac, mapped_prefix, packed
from vigie.contract.codes import Action, Category, Direction, Reason, Verdict
from vigie.filter import abi
from vigie.filter.base.additions import Additions
from vigie.filter.base.geo import GeoRanges, plan_geo
from vigie.filter.base.image import ImagePlan, plan_image
from vigie.filter.base.model import NOT_LISTED, Base, ClassEntry, Intervals4, Intervals6, Names, Ports6
from vigie.filter.base.names import name_hash, name_keys
from vigie.filter.datapath import DataPath
from vigie.filter.events import Event, decode
from vigie.filter.libbpf import skb_context

OBJECT = Path(__file__).parents[2] / "firmware" / "bpf" / "build" / "filter.bpf.o"

TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT = 0, 2, 7
CLONE_NEWNET = 0x40000000
IMAGE_PAGES = 40
NO_ADDITIONS = Additions(builtins=False)
TABLES = (
    "exceptions", "local_names", "quarantine", "dynamic", "inbound_allow", "device_class", "class_policy",
    "essential_ports", "resolved", "macs", "own",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What the program did with one frame."""

    verdict: Verdict
    reason: Reason
    anomaly: Reason
    cached: bool
    action: int
    data: bytes
    """The frame as the program left it."""

    @property
    def decided(self) -> tuple[Verdict, Reason]:
        return self.verdict, self.reason


@contextlib.contextmanager
def namespace_with_ports() -> Iterator[tuple[int, int]]:
    """The calling thread in a new network namespace with two ports up; gives their interface numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "a new network namespace needs root")
        try:
            for port in ("p0", "p1"):
                _ip("link", "add", port, "type", "veth", "peer", "name", f"{port}x")
                for name in (port, f"{port}x"):
                    _ip("link", "set", name, "up")
            yield _ifindex("p0"), _ifindex("p1")
        finally:
            if libc.setns(before, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot go back to the network namespace of before")
    finally:
        os.close(before)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _ifindex(name: str) -> int:
    return socket.if_nametoindex(name)


@contextlib.contextmanager
def one_cpu() -> Iterator[int]:
    """The calling thread on one CPU, whose number is given."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


class Kernel:
    """The loaded data path. Use through `kernel()`."""

    def __init__(self, ifindex: tuple[int, int], cpu: int, start: int, path: Path = OBJECT) -> None:
        self.data = DataPath.open(path)
        self.cpu = cpu
        self.start = start
        self.ifindex = ifindex
        self._ingress = self.data.programs["vigie_ingress"]
        self._contexts = [skb_context(index) for index in ifindex]
        self.data.settings.set_ports(ifindex, (1500, 1500))
        self.data.control["event_rate"] = 0
        self.flows: npt.NDArray[np.void] = self.data.flows
        self.flow_tags = np.frombuffer(self.data.maps["flow_tags"].mmap(), dtype=np.uint16)
        self.openers = np.frombuffer(self.data.maps["openers"].mmap(), dtype=np.uint64)
        self.ring = self.data.events()
        self.key, self.seed = name_keys()
        self._images: dict[int, tuple[bytes, memoryview]] = {}
        self.policy = Policy()
        self.passed = 0
        self._delta = 0
        self.reset()

    # -- state

    def reset(self) -> None:
        """Forget flows, openers and MACs; the clock of the policies starts again."""
        self.evict()
        self.openers[self.openers != 0] = 0
        self.data.state["loop_port"] = 0
        self.data.state["probe_seen_ns"] = 0
        self.passed = 0
        self._delta = time.monotonic_ns() // 10**9 - self.start
        for name in TABLES:
            self.data.maps[name].clear()
        memos = self.data.object.maps["mac_memos"]
        numbers = b"".join(i.to_bytes(4, "little") for i in range(memos.max_entries))
        memos.update_batch(numbers, bytes(memos.max_entries * memos.value_bytes))
        self.ring.read(1 << 20)

    def evict(self) -> None:
        """Empty the flow cache."""
        used = np.flatnonzero(self.flows["tag"])
        self.flows[used] = np.zeros((), dtype=abi.FLOW)
        self.flow_tags[:] = 0

    @property
    def now(self) -> int:
        """The model's clock: start plus what `advance` was given."""
        return self.start + self.passed

    def advance(self, seconds: int) -> None:
        """Make everything stored `seconds` older."""
        self.passed += seconds
        self._delta -= seconds
        used = np.flatnonzero(self.flows["tag"])
        rows = self.flows[used]
        for name in ("last_s", "first_s"):
            rows[name] -= np.uint32(seconds)  # u32 wraps as the program's own subtraction does
        until = rows["until_s"].astype(np.int64)
        rows["until_s"] = np.where(until == 0, 0, np.maximum(until - seconds, 1))
        self.flows[used] = rows
        remembered = np.flatnonzero(self.openers)
        values = self.openers[remembered]
        stamps = (values & np.uint64(0xFFFFFFFF)).astype(np.uint32) - np.uint32(seconds)
        self.openers[remembered] = values & np.uint64(0xFFFFFFFF00000000) | stamps.astype(np.uint64)
        self.data.state["probe_seen_ns"] -= np.uint64(seconds * 10**9)
        learnt = list(self.data.maps["resolved"].items())
        self._write_times(self.policy)
        self.data.maps["resolved"].clear()
        for key, raw in learnt:
            value = abi.unpack(abi.RESOLVED_VALUE, raw).copy()
            if value["until_s"] != FOREVER:
                value["until_s"] = max(int(value["until_s"]) - seconds, 1)
            self.data.maps["resolved"].update(key, value.tobytes())

    def until(self, model_time: int) -> int:
        """A time of a policy on the kernel's clock."""
        return model_time if model_time in (0, FOREVER) else max(model_time + self._delta, 1)

    # -- policy

    def apply(self, policy: Policy) -> None:
        """Put a policy into force under a new epoch."""
        self.policy = policy
        control = self.data.control
        control["wan_port"] = policy.wan_port
        control["box_mac"] = 0
        control["box_mac"][:6] = list(mac(policy.box_mac))
        control["gw_mac"] = 0
        for i, text in enumerate(policy.gw_mac):
            control["gw_mac"][i][:6] = list(mac(text))
        control["inbound_mode"] = policy.inbound_mode
        control["isolation_level"] = policy.isolation_level
        control["loop_port"] = policy.loop_port
        control["probe_nonce"] = policy.probe_nonce
        for i, text in enumerate(policy.onlink):
            network, bits = mapped_prefix(text)
            control["onlink"][i]["net"] = list(network)
            control["onlink"][i]["mask"] = list(abi.mask_bytes(bits))
        control["onlink_count"] = len(policy.onlink)
        for field, addresses in (("box_addr", policy.box_addr), ("gateway", policy.gateway)):
            for i, text in enumerate(addresses):
                control[field][i] = list(packed(text))
            control[f"{field}_count"] = len(addresses)
        for i, (proto, port) in enumerate(policy.box_ports):
            control["box_port"][i] = (port, proto, 0)
        control["box_port_count"] = len(policy.box_ports)
        control["features"] = features(policy)
        for name in TABLES:
            if name != "macs":
                self.data.maps[name].clear()
        self._write_times(policy)
        self._write_tables(policy)
        self._put_image(abi.KIND_BASE, self.base_image(policy))
        self._put_image(abi.KIND_GEO, geo_image(policy))
        self.data.bump()

    def _put_image(self, kind: int, plan: ImagePlan) -> None:
        """Bring an image into force: written over the one before, since no program runs meanwhile.

        A swap as the product does it (`load_image`) waits for the kernel, tens of milliseconds each time.
        """
        _, geo, base = abi.gen_parts(self.data.settings.gen)
        slot = self.data.maps["images"].lookup(base if kind == abi.KIND_BASE else 2 + geo)
        installed, memory = self._images.get(kind, (None, memoryview(b"")))
        if slot is None or slot != installed:
            room = bytearray(IMAGE_PAGES * abi.PAGE_BYTES)
            plan.write(room)
            np.frombuffer(room, abi.IMAGE_HEADER, 1)["pages"] = IMAGE_PAGES
            self.data.load_image(kind, room)
            _, geo, base = abi.gen_parts(self.data.settings.gen)
            slot = self.data.maps["images"].lookup(base if kind == abi.KIND_BASE else 2 + geo)
            found = self.data.image_bytes(kind)
            assert slot is not None and found is not None
            self._images[kind] = slot, found
        else:
            assert plan.nbytes <= len(memory), "a policy of these tests is larger than IMAGE_PAGES"
            plan.write(memory)

    def _write_times(self, policy: Policy) -> None:
        """Everything that holds a time of the policy."""
        self.data.control["isolation_until"] = self.until(policy.isolation_until)
        self.data.control["grace_until"] = self.until(policy.grace_until)
        maps = self.data.maps
        for (device, prefix), e in policy.exceptions.items():
            network, bits = mapped_prefix(prefix)
            key = abi.pack(abi.EXCEPTION_KEY, prefixlen=96 + bits, mac=_device(device), addr=network)
            value = abi.pack(
                abi.EXCEPTION_VALUE, until_s=self.until(e.until), port=e.port, proto=e.proto, action=e.action
            )
            maps["exceptions"].update(key, value)
        for (device, name), n in policy.local_names.items():
            key = abi.pack(abi.LOCAL_NAME_KEY, hash=name_hash(name, self.key, self.seed), mac=_device(device))
            maps["local_names"].update(
                key, abi.pack(abi.LOCAL_NAME_VALUE, until_s=self.until(n.until), action=n.action)
            )
        for device, until in policy.quarantine.items():
            maps["quarantine"].update(abi.pack(abi.MAC_KEY, mac=mac(device)), self._until_value(until))
        for (who, address), until in policy.dynamic.items():
            key = abi.pack(abi.DYNAMIC_KEY, mac=_device(who), addr=packed(address))
            maps["dynamic"].update(key, abi.pack(abi.DYNAMIC_VALUE, until_s=self.until(until)))
        for (device, proto, port), until in policy.inbound_allow.items():
            key = abi.pack(abi.INBOUND_KEY, mac=mac(device), proto=proto, port=port)
            maps["inbound_allow"].update(key, self._until_value(until))
        for address, r in policy.resolved.items():
            value = abi.pack(abi.RESOLVED_VALUE, until_s=self.until(r.until), never=r.never, rank=r.rank)
            maps["resolved"].update(packed(address), value)
        stamp = self._until_value(self.now)
        for own in policy.own:
            key = abi.pack(
                abi.FLOW_KEY, a=packed(own.box), b=packed(own.remote), pa=own.box_port, pb=own.remote_port,
                proto=own.proto, family=ip_address(own.box).version, vlan=own.vlan,
            )  # fmt: skip
            maps["own"].update(key, stamp)

    def _until_value(self, until: int) -> bytes:
        return abi.pack(abi.UNTIL_VALUE, until_s=self.until(until))

    def _write_tables(self, policy: Policy) -> None:
        """Everything without a time."""
        maps = self.data.maps
        for device, (number, rank) in policy.device_class.items():
            value = np.array((number, rank, (0, 0)), dtype=abi.DEVICE_VALUE).tobytes()
            maps["device_class"].update(abi.pack(abi.MAC_KEY, mac=mac(device)), value)
        for (number, kind, what), action in policy.class_policy.items():
            code = _country(str(what)) if kind == PK_COUNTRY else int(what)
            key = np.array((number, kind, 0, code), dtype=abi.CLASS_POLICY_KEY).tobytes()
            maps["class_policy"].update(key, abi.pack(abi.ACTION_VALUE, action=action))
        for (proto, port), rank in policy.essential_ports.items():
            key = abi.pack(abi.ESSENTIAL_PORT_KEY, proto=proto, port=port)
            maps["essential_ports"].update(key, abi.pack(abi.RANK_VALUE, rank=rank))

    def base_image(self, policy: Policy) -> ImagePlan:
        """The base of a policy as the kernel reads it."""
        classes = [NOT_LISTED] + [
            ClassEntry(c.flags, Direction(c.direction), Action(c.action), Category(c.category), c.rank)
            for _, c in sorted(policy.classes.items())
        ]
        assert sorted(policy.classes) == list(range(1, len(classes))), "classes are numbered from 1"
        four, six = intervals(policy.base, 4), intervals(policy.base, 6)
        hashes = sorted((name_hash(n, self.key, self.seed), c) for n, c in policy.names.items())
        ports = sorted((ip_address(a).version, int(ip_address(a)), port) for a, port in policy.base_ports)
        base = Base(
            serial=1,
            created=0,
            name_key=self.key,
            name_seed=self.seed,
            classes=classes,
            v4=Intervals4(*_columns(four, np.uint32)),
            v6=Intervals6(*_columns6(six)),
            names=Names(np.array([h for h, _ in hashes], np.uint64), np.array([c for _, c in hashes], np.uint8)),
            ports4=np.array([a << 16 | port for version, a, port in ports if version == 4], np.uint64),
            ports6=Ports6(
                np.array([a >> 64 for version, a, _ in ports if version == 6], np.uint64),
                np.array([a & (1 << 64) - 1 for version, a, _ in ports if version == 6], np.uint64),
                np.array([port for version, _, port in ports if version == 6], np.uint16),
            ),
        )
        return plan_image(base, NO_ADDITIONS)

    # -- frames

    def run(self, port: int, frame: bytes, context: bytes | None = None) -> Result:
        """Run one frame in at a port."""
        run = self._ingress.test_run(frame, ctx=context or self._contexts[port])
        raw = self.data.maps["decision"].lookup(0)
        assert raw is not None
        size = abi.DECISION.itemsize
        verdict, reason, anomaly, cached = raw[self.cpu * size : self.cpu * size + 4]
        return Result(Verdict(verdict), Reason(reason), Reason(anomaly), bool(cached), run.retval, run.data_out)

    def events(self) -> list[Event]:
        """What was reported since the last call."""
        return [decode(record) for record in self.ring.read(1 << 20)]

    def close(self) -> None:
        self.data.close()


def features(policy: Policy) -> int:
    """The F_* bits of a policy: no limits, every decision told, tables in use."""
    essential = policy.essential_ports or any(rank for _, rank in policy.device_class.values())
    used: list[tuple[Any, int]] = [
        (policy.exceptions, abi.F_EXCEPTIONS),
        (policy.quarantine, abi.F_QUARANTINE),
        (policy.dynamic, abi.F_DYNAMIC),
        (policy.class_policy, abi.F_CLASS_POLICY),
        (essential, abi.F_ESSENTIAL),
        (policy.inbound_allow, abi.F_INBOUND_ALLOW),
        (policy.local_names, abi.F_LOCAL_NAMES),
        (policy.learn, abi.F_RESOLVED),
    ]
    return abi.F_NO_LIMITS | abi.F_TRACE | sum(bit for table, bit in used if table)


def geo_image(policy: Policy) -> ImagePlan:
    """The geo image of a policy."""
    numbers = {prefix: asn | _country(country) << 32 for prefix, (asn, country) in policy.geo.items()}
    return plan_geo([_ranges(intervals(numbers, 4))], [_ranges(intervals(numbers, 6))], serial=1)


def _ranges(found: list[tuple[int, int, int]]) -> GeoRanges:
    first_hi, first_lo, last_hi, last_lo, _ = _columns6(found)
    return GeoRanges((first_hi, first_lo), (last_hi, last_lo), np.array([v for _, _, v in found], np.uint64))


def _columns(found: list[tuple[int, int, int]], kind: type[np.unsignedinteger[Any]]) -> tuple[Any, Any, Any]:
    first, last, values = ([row[i] for row in found] for i in range(3))
    return np.array(first, kind), np.array(last, kind), np.array([v & 0xFF for v in values], np.uint8)


def _columns6(found: list[tuple[int, int, int]]) -> tuple[Any, Any, Any, Any, Any]:
    low = (1 << 64) - 1
    columns = [
        [first >> 64 for first, _, _ in found],
        [first & low for first, _, _ in found],
        [last >> 64 for _, last, _ in found],
        [last & low for _, last, _ in found],
    ]
    halves = [np.array(column, np.uint64) for column in columns]
    return (*halves, np.array([v & 0xFF for _, _, v in found], np.uint8))  # type: ignore[return-value]


def _device(text: str | None) -> bytes:
    return bytes(6) if text is None else mac(text)


def _country(text: str) -> int:
    return ord(text[0]) << 8 | ord(text[1]) if text else 0


@contextlib.contextmanager
def kernel(start: int, path: Path = OBJECT) -> Iterator[Kernel]:
    """A Kernel in a namespace of its own, on one CPU."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: build it with `make -C firmware/bpf`")
    with one_cpu() as cpu, namespace_with_ports() as ifindex:
        instance = Kernel(ifindex, cpu, start, path)
        try:
            yield instance
        finally:
            instance.close()
