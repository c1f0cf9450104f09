"""The bench of the data path: a box in namespaces of its own, a generator at its LAN port, a sink behind its WAN port.

```
 lan --- lan0 [ box: br0 ] wan0 --- wan
          ^ XDP live frames enter here (bench/bpf/generator.bpf.c)
```
The frames of the generator enter the stack at `lan0` as if received; what the box lets through is dropped at tc ingress
of the far end of `wan0`, so that the cost measured is the box's. Offloads stay as veth has them.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lab.netns import Namespace, World
from vigie.contract.codes import InboundMode
from vigie.filter.datapath import DataPath
from vigie.filter.libbpf import BpfObject, Program, enable_stats, xdp_context
from vigie.host.tc import Hook, Tc

ROOT = Path(__file__).parents[1]
OBJECT = ROOT / "firmware" / "bpf" / "build" / "filter.bpf.o"
GENERATOR_SOURCE = ROOT / "bench" / "bpf" / "generator.bpf.c"
GENERATOR = ROOT / "build" / "bench" / "generator.bpf.o"

PC_MAC, ROUTER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:fe"
PC4, ROUTER4, SERVER4 = "10.77.0.2", "10.77.0.1", "10.77.0.9"
LIVE_BATCH = 256
_FIELD = struct.Struct("=6I")
_LIST_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Vary:
    """A field that differs from frame to frame. mode as in generator.bpf.c; offset in bytes; width 2 or 4."""

    mode: int
    offset: int
    width: int = 4
    modulus: int = 0
    base: int = 0

    def pack(self) -> bytes:
        return _FIELD.pack(self.mode, self.offset, self.width, self.modulus, self.base, 0)


SEQUENCE, RANDOM, LIST, DIGITS = 1, 2, 3, 4


@dataclass(slots=True)
class Rig:
    """Handles of one bench. The calling thread is inside the box's namespace."""

    box: Namespace
    lan: Namespace
    wan: Namespace
    path: DataPath
    generator: BpfObject
    lan_ifindex: int
    wan_ifindex: int
    tc: Tc = field(default_factory=Tc)

    def plain(self) -> None:
        """A plain bridge: no program at the ports."""
        self.path.detach("lan0", "wan0", "br0")

    def filtered(self) -> None:
        """The data path at both ports."""
        self.path.attach("lan0", "wan0", "br0")

    def alone(self) -> Program:
        """An empty program at the LAN port: what the hook itself costs."""
        self.plain()
        program = self.generator.programs["empty"]
        self.tc.attach(Hook(self.lan_ifindex, ingress=True), program.fd, "empty")
        return program

    def inject(self, frame: bytes, count: int, *vary: Vary, start: int = 0) -> float:
        """Send `count` variants of `frame` into the LAN port; seconds it took."""
        fields = b"".join(v.pack() for v in vary).ljust(3 * _FIELD.size, b"\0")
        template = frame[:96].ljust(96, b"\0")
        self.generator.maps["plan"].update(0, fields + start.to_bytes(8, "little") + template)
        program = self.generator.programs["generate"]
        begin = time.perf_counter()
        program.test_run(
            frame, xdp_context(len(frame), self.lan_ifindex), repeat=count, live_frames=True, batch=LIVE_BATCH
        )
        return time.perf_counter() - begin

    def set_list(self, values: np.ndarray) -> int:
        """Values for Vary(LIST): returns how many were taken (a power of two at most 1 Mi is not needed)."""
        n = min(len(values), _LIST_MAX)
        memory = np.frombuffer(self.generator.maps["list"].mmap(), dtype=np.uint64)
        memory[:n] = values[:n]
        return n

    def cost_ns(self, program: Program, frame: bytes, count: int, *vary: Vary, start: int = 0) -> float:
        """Mean nanoseconds of `program` over the injected frames, by the kernel's own statistics."""
        before = program.stats()
        self.inject(frame, count, *vary, start=start)
        after = program.stats()
        runs = after.run_cnt - before.run_cnt
        if runs < count * 0.99:
            raise RuntimeError(f"{program.name}: {runs} runs for {count} frames: the frames did not reach it")
        return (after.run_time_ns - before.run_time_ns) / runs


def build_generator() -> Path:
    """Compile the generator with the compiler of the data path."""
    GENERATOR.parent.mkdir(parents=True, exist_ok=True)
    clang = next((c for c in ("clang-14", "clang-16", "clang-19", "clang") if _found(c)), None)
    if clang is None:
        raise RuntimeError("no clang: run `make setup`")
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    argv = [
        clang,
        "-g",
        "-O2",
        "-target",
        "bpf",
        "-mcpu=v3",
        f"-I{include}",
        "-c",
        str(GENERATOR_SOURCE),
        "-o",
        str(GENERATOR),
    ]
    subprocess.run(argv, check=True)
    return GENERATOR


def _found(command: str) -> bool:
    return any((Path(d) / command).exists() for d in os.environ["PATH"].split(":"))


@contextlib.contextmanager
def pinned_cpu(cpu: int) -> Iterator[None]:
    """This thread on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """The kernel times every program run meanwhile."""
    handle = enable_stats()
    try:
        yield
    finally:
        handle.close()


@contextlib.contextmanager
def rig(image: object) -> Iterator[Rig]:
    """A box with `image` loaded, roles known, inbound refused; nothing attached yet."""
    with World(sys.executable, ROOT) as world:
        box, lan, wan = (world.namespace(n) for n in ("box", "lan", "wan"))
        world.cable(box, "lan0", lan, "eth0")
        world.cable(box, "wan0", wan, "eth0")
        lan.ip("link", "set", "eth0", "address", PC_MAC)
        wan.ip("link", "set", "eth0", "address", ROUTER_MAC)
        lan.address("eth0", f"{PC4}/24")
        wan.address("eth0", f"{ROUTER4}/24", f"{SERVER4}/24")
        box.bridge("br0", "lan0", "wan0")
        # An on-link server would be local; the benches want the whole decision, so the link is declared smaller.
        lan.ip("route", "add", "198.18.0.0/15", "via", ROUTER4)
        wan.address("eth0", "198.18.0.1/32")
        with box.entered():
            obj = BpfObject.open(build_generator())
            obj.load()
            path = DataPath.open(OBJECT)
            s = path.settings
            with path.batch():
                s.set_ports([box.ifindex("lan0"), box.ifindex("wan0")], [1500, 1500])
                s.set_wan_port(1)
                s.set_gateways([ROUTER_MAC], [ROUTER4])
                s.set_onlink(["10.77.0.0/24"])
                s.set_inbound_mode(InboundMode.REFUSE)
            path.load_image(0, image)  # type: ignore[arg-type]
            bench = Rig(box, lan, wan, path, obj, box.ifindex("lan0"), box.ifindex("wan0"))
            with wan.entered():
                Tc().attach(Hook(wan.ifindex("eth0"), ingress=True), obj.programs["empty"].fd, "empty")
            try:
                yield bench
            finally:
                path.close()
                obj.close()


def sink(bench: Rig, on: bool) -> None:
    """Whether what comes out of the WAN port is dropped (on) or reaches the WAN namespace."""
    program = bench.generator.programs["sink" if on else "empty"]
    with bench.wan.entered():
        Tc().attach(Hook(bench.wan.ifindex("eth0"), ingress=True), program.fd, program.name)
