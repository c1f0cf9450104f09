"""BPF objects, maps and programs through libbpf.so.1.

Works with libbpf 1.1 (Debian 12), 1.5 (Debian 13) and 1.6 (Buildroot). `BpfObject.load` takes duplicates of the
descriptors it needs and gives the rest back, so that a `Map` or a `Program` lives as long as somebody holds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import weakref
from collections.abc import Collection
from ctypes import c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from vigie.errors import BpfError, LayoutError
from vigie.filter.bpfcalls import (
    OpenOpts,
    RawProgInfo,
    TestRunOpts,
    errno_name,
    fail,
    fence,
    lib,
    messages,
    possible_cpus,
    version,
)
from vigie.filter.bpfmap import (
    BPF_F_INNER_MAP,
    BPF_F_MMAPABLE,
    TYPE_ARRAY,
    TYPE_RINGBUF,
    Descriptor,
    Map,
    MapInfo,
    map_info,
)

__all__ = [
    "BPF_F_INNER_MAP", "BPF_F_MMAPABLE", "TYPE_ARRAY", "TYPE_RINGBUF", "BpfObject", "Map", "MapInfo", "Program",
    "ProgramStats", "Run", "enable_stats", "errno_name", "fail", "fence", "map_info", "possible_cpus", "skb_context",
    "version", "xdp_context",
]  # fmt: skip

TEST_XDP_LIVE_FRAMES: Final = 1 << 1
LOG_BYTES: Final = 4 << 20
TEST_BYTES: Final = 65536
_CTX_BYTES: Final = 256
MAX_TEST_FRAME: Final = 3520
"""Longest frame that every 6.x kernel takes in a test run: one page less head room and `skb_shared_info`."""


class Run(NamedTuple):
    """Result of one test run: return code, frame and context afterwards, mean time of one pass."""

    retval: int
    data_out: bytes
    ctx_out: bytes
    duration_ns: int


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """What the kernel says of a program. `run_*` move only while statistics are on (`enable_stats`)."""

    id: int
    name: str
    tag: str
    verified_insns: int
    run_time_ns: int
    run_cnt: int


class Program(Descriptor):
    """One loaded program. Test runs of one Program share buffers: one thread at a time."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd)
        self.name = name
        # Buffers and options are made once: a test run then costs about 5 us, most of it in the kernel.
        sizes = (TEST_BYTES, TEST_BYTES, _CTX_BYTES, _CTX_BYTES)
        buffers = [ctypes.create_string_buffer(size) for size in sizes]
        self._data_in, self._data_out, self._ctx_in, self._ctx_out = (memoryview(b).cast("B") for b in buffers)
        self._addresses = [ctypes.addressof(b) for b in buffers]
        self._opts = TestRunOpts(sz=ctypes.sizeof(TestRunOpts), data_in=self._addresses[0])
        self._opts_ref = ctypes.byref(self._opts)
        self._call = lib().bpf_prog_test_run_opts

    def test_run(
        self,
        data: bytes,
        ctx: bytes | None = None,
        repeat: int = 1,
        live_frames: bool = False,
        batch: int = 0,
        want_data: bool = True,
    ) -> Run:
        """Run the program on `data`, a frame of 14 bytes at least (BPF_PROG_TEST_RUN).

        ctx: a `struct __sk_buff` (`skb_context`) or `struct xdp_md` (`xdp_context`).
        live_frames: XDP only; `repeat` copies really enter the device of the context, `batch` at a time, and nothing
        is given back. With `repeat` > 1 each pass sees what the one before left in the frame.
        want_data: False leaves `data_out` and `ctx_out` empty and saves two copies.
        """
        opts, size = self._opts, len(data)
        if size > TEST_BYTES:
            raise BpfError(f"test run of {self.name}: a frame of {size} bytes, at most {TEST_BYTES} are possible")
        self._data_in[:size] = data
        opts.data_size_in = size
        if ctx is None:
            opts.ctx_in = None
            opts.ctx_size_in = 0
        else:
            self._ctx_in[: len(ctx)] = ctx
            opts.ctx_in = self._addresses[2]
            opts.ctx_size_in = len(ctx)
        opts.repeat = repeat
        opts.flags = TEST_XDP_LIVE_FRAMES if live_frames else 0
        opts.batch_size = batch if live_frames else 0
        back = want_data and not live_frames
        opts.data_out = self._addresses[1] if back else None
        opts.data_size_out = TEST_BYTES if back else 0
        opts.ctx_out = self._addresses[3] if back and ctx is not None else None
        opts.ctx_size_out = _CTX_BYTES if back and ctx is not None else 0
        result = self._call(self.fd, self._opts_ref)
        if result:
            fail(f"test run of {self.name} on {size} bytes", result)
        if not back:
            return Run(opts.retval, b"", b"", opts.duration)
        return Run(opts.retval, bytes(self._data_out[: opts.data_size_out]), bytes(self._ctx_out[: opts.ctx_size_out]),
                   opts.duration)  # fmt: skip

    def stats(self) -> ProgramStats:
        """Number, tag, verifier effort and run-time statistics."""
        info = RawProgInfo()
        size = c_uint32(ctypes.sizeof(info))
        result = lib().bpf_obj_get_info_by_fd(self.fd, ctypes.byref(info), ctypes.byref(size))
        if result:
            fail(f"description of program {self.name}", result)
        return ProgramStats(info.id, self.name, bytes(info.tag).hex(), info.verified_insns, info.run_time_ns,
                            info.run_cnt)  # fmt: skip


def enable_stats() -> Descriptor:
    """Have the kernel time every program until the returned descriptor is closed."""
    fd: int = lib().bpf_enable_stats(0)
    if fd < 0:
        fail("run-time statistics", fd)
    return Descriptor(fd)


class BpfObject:
    """A compiled object: `open`, adjust, `load`; then `maps` and `programs` by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self._log = ctypes.create_string_buffer(LOG_BYTES)
        opts = OpenOpts(sz=ctypes.sizeof(OpenOpts), kernel_log_size=LOG_BYTES)
        opts.kernel_log_buf = ctypes.addressof(self._log)
        if not path.is_file():
            raise BpfError(f"{path}: no such object file; build it with `make -C firmware/bpf`", errno.ENOENT)
        messages.clear()
        self._handle: int | None = lib().bpf_object__open_file(os.fsencode(path), ctypes.byref(opts))
        if not self._handle:
            fail(f"{path} is not a BPF object", ctypes.get_errno(), self._tail())
        self._closer = weakref.finalize(self, lib().bpf_object__close, self._handle)

    @classmethod
    def open(cls, path: Path | str) -> BpfObject:
        """Parse the ELF object; nothing enters the kernel yet."""
        return cls(Path(path))

    def _raw(self, kind: str) -> dict[str, int]:
        if self._handle is None:
            raise BpfError(f"{self.path} is loaded already: open it again for a second instance")
        out: dict[str, int] = {}
        step, name = getattr(lib(), f"bpf_object__next_{kind}"), getattr(lib(), f"bpf_{kind}__name")
        item = step(self._handle, None)
        while item:
            out[name(item).decode()] = item
            item = step(self._handle, item)
        return out

    def _raw_map(self, name: str) -> int:
        maps = self._raw("map")
        if name not in maps:
            raise BpfError(f"{self.path}: no map {name!r}; it has {', '.join(sorted(maps))}")
        return maps[name]

    def set_max_entries(self, name: str, count: int) -> None:
        """Size of a map, before `load`."""
        result = lib().bpf_map__set_max_entries(self._raw_map(name), count)
        if result:
            fail(f"{self.path}: size of map {name}", result)

    def set_pin_path(self, name: str, path: Path | None) -> None:
        """Have libbpf itself pin or reuse this one map, before `load`."""
        result = lib().bpf_map__set_pin_path(self._raw_map(name), os.fsencode(path) if path else None)
        if result:
            fail(f"{self.path}: pin path of map {name}", result)

    def reuse(self, name: str, other: Map) -> None:
        """Use `other` in place of a new map, before `load`. LayoutError when its shape is not the object's."""
        raw = self._raw_map(name)
        want = (lib().bpf_map__type(raw), lib().bpf_map__key_size(raw), lib().bpf_map__value_size(raw))
        have = (other.type, other.key_size, other.value_size)
        sizes = (lib().bpf_map__max_entries(raw), other.max_entries)
        if want != have or (other.type != TYPE_RINGBUF and sizes[0] != sizes[1]):
            raise LayoutError(
                f"map {name}: the kernel's has (type, key, value, entries) {(*have, sizes[1])}, {self.path.name} wants "
                f"{(*want, sizes[0])}: another layout under the same version number; remove the pinned maps"
            )
        result = lib().bpf_map__reuse_fd(raw, other.fd)
        if result:
            fail(f"{self.path}: reuse of map {name}", result)

    def only_programs(self, *names: str) -> None:
        """Load just these programs."""
        for name, raw in self._raw("program").items():
            lib().bpf_program__set_autoload(raw, name in names)

    def load(self, pin_dir: Path | None = None, pinned: Collection[str] | None = None) -> BpfObject:
        """Create the maps and load the programs.

        With `pin_dir` (on a bpffs, made when absent) maps found there are used again and the others pinned there,
        each under its name; `pinned` limits that to these maps. BpfError carries the tail of the verifier's log.
        """
        names = [n for n in self._raw("map") if "." not in n and (pinned is None or n in pinned)]
        reused: set[str] = set()
        if pin_dir is not None:
            _make_pin_dir(pin_dir)
            for name in names:
                if (pin_dir / name).exists():
                    self.reuse(name, Map.pinned(pin_dir / name))
                    reused.add(name)
        messages.clear()
        result = lib().bpf_object__load(self._handle)
        if result:
            fail(f"{self.path}: the kernel refused it", result, self._tail())
        for name, raw in self._raw("map").items():
            self.maps[name] = Map(_duplicate(lib().bpf_map__fd(raw)), name)
        for name, raw in self._raw("program").items():
            fd = lib().bpf_program__fd(raw)
            if fd >= 0:
                self.programs[name] = Program(_duplicate(fd), name)
        self._closer()
        self._handle = None
        self._log = ctypes.create_string_buffer(1)
        if pin_dir is not None:
            for name in names:
                if name not in reused:
                    self.maps[name].pin(pin_dir / name)
        return self

    def close(self) -> None:
        """Give every descriptor back. Attached programs and pinned maps stay in the kernel."""
        self._closer()
        self._handle = None
        for item in (*self.maps.values(), *self.programs.values()):
            item.close()
        self.maps, self.programs = {}, {}

    def _tail(self, lines: int = 25) -> str:
        log = self._log.value.decode("utf-8", "replace").splitlines()
        return "\n".join([*[m for m in messages if "kernel logs" not in m][-5:], *log[-lines:]])


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _make_pin_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise BpfError(f"{path} cannot be made ({e.strerror}): is a bpffs mounted there?", e.errno or 0) from e


_SKB_SIZE: Final = 192


def skb_context(
    ifindex: int,
    *,
    ingress_ifindex: int = 0,
    mark: int = 0,
    priority: int = 0,
    tstamp: int = 0,
    wire_len: int = 0,
    gso_segs: int = 0,
    gso_size: int = 0,
) -> bytes:
    """`struct __sk_buff` for a test run: the fields that net/bpf/test_run.c lets in, everything else zero.

    ifindex: a device of the current network namespace, which becomes the frame's; 0 and 1 are the loopback.
    wire_len: 0, or at least the length of the frame. A metadata VLAN tag cannot be given: put it in the frame.
    """
    out = bytearray(_SKB_SIZE)
    for offset, size, value in (
        (8, 4, mark), (32, 4, priority), (36, 4, ingress_ifindex), (40, 4, ifindex), (152, 8, tstamp),
        (160, 4, wire_len), (164, 4, gso_segs), (176, 4, gso_size),
    ):  # fmt: skip
        out[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(out)


def xdp_context(frame_len: int, ingress_ifindex: int, rx_queue: int = 0) -> bytes:
    """`struct xdp_md` for a test run: the frame seems to come in at this device."""
    fields = (0, frame_len, 0, ingress_ifindex, rx_queue, 0)
    return b"".join(value.to_bytes(4, "little") for value in fields)
