"""BPF objects, maps and programs through libbpf.so.1.

Works with libbpf 1.1 (Debian 12), 1.5 (Debian 13) and 1.6 (Buildroot). `BpfObject.load` takes duplicates of the
descriptors it needs and gives the rest back, so that a `Map` or a `Program` lives as long as somebody holds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Collection, Iterator
from ctypes import c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from vigie.errors import BpfError, LayoutError
from vigie.filter.bpfcalls import (
    ENOTSUPP,
    BatchOpts,
    MapCreateOpts,
    OpenOpts,
    RawMapInfo,
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

__all__ = [
    "BpfObject", "Map", "MapInfo", "Program", "ProgramStats", "Run", "enable_stats", "errno_name", "fail", "fence",
    "map_info", "possible_cpus", "skb_context", "version", "xdp_context",
]  # fmt: skip

# Kernel numbers, include/uapi/linux/bpf.h.
TYPE_HASH, TYPE_ARRAY, TYPE_PERCPU_HASH, TYPE_PERCPU_ARRAY = 1, 2, 5, 6
TYPE_LRU_HASH, TYPE_LRU_PERCPU_HASH, TYPE_LPM_TRIE, TYPE_ARRAY_OF_MAPS, TYPE_RINGBUF = 9, 10, 11, 12, 27
PER_CPU_TYPES: Final = frozenset({TYPE_PERCPU_HASH, TYPE_PERCPU_ARRAY, TYPE_LRU_PERCPU_HASH})
BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
BPF_F_NO_PREALLOC: Final = 1 << 0
BPF_F_MMAPABLE: Final = 1 << 10
BPF_F_INNER_MAP: Final = 1 << 12
TEST_XDP_LIVE_FRAMES: Final = 1 << 1

LOG_BYTES: Final = 4 << 20
TEST_BYTES: Final = 65536
_CTX_BYTES: Final = 256
BATCH: Final = 4096
MAX_TEST_FRAME: Final = 3520
"""Longest frame that every 6.x kernel takes in a test run: one page less head room and `skb_shared_info`."""


class _Descriptor:
    """Owns a file descriptor; closed with `close()` or when nothing refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._finalizer = weakref.finalize(self, os.close, fd)

    def close(self) -> None:
        """Give the descriptor back. The kernel object lives on while pinned, attached or mapped."""
        self._finalizer()


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


def map_info(fd: int) -> MapInfo:
    """The kernel's description of the map behind `fd`."""
    info = RawMapInfo()
    size = c_uint32(ctypes.sizeof(info))
    result = lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
    if result:
        fail(f"description of map fd {fd}", result)
    return MapInfo(info.type, info.id, info.key_size, info.value_size, info.max_entries, info.map_flags,
                   info.name.decode("ascii", "replace"))  # fmt: skip


class Map(_Descriptor):
    """One BPF map. Keys and values are bytes of exactly `key_size` and `value_bytes`.

    `value_bytes` is what one look-up returns: `value_size`, or for a per-CPU map `value_size` rounded up to 8 times
    the number of possible CPUs.
    """

    def __init__(self, fd: int, name: str = "") -> None:
        super().__init__(fd)
        info = map_info(fd)
        self.name = name or info.name
        self.type, self.key_size, self.value_size = info.type, info.key_size, info.value_size
        self.max_entries, self.flags, self.id = info.max_entries, info.flags, info.id
        self.value_bytes = info.value_size
        if info.type in PER_CPU_TYPES:
            self.value_bytes = (info.value_size + 7) // 8 * 8 * possible_cpus()

    @classmethod
    def pinned(cls, path: Path) -> Map:
        """The map pinned at `path`."""
        fd: int = lib().bpf_obj_get(os.fsencode(path))
        if fd < 0:
            fail(f"pinned map {path}", fd)
        return cls(fd, path.name)

    @classmethod
    def by_id(cls, number: int, name: str = "") -> Map:
        """The map of this kernel number, as a look-up in a map of maps returns it."""
        fd: int = lib().bpf_map_get_fd_by_id(number)
        if fd < 0:
            fail(f"map number {number}", fd)
        return cls(fd, name)

    @classmethod
    def create(
        cls, kind: int, name: str, key_size: int, value_size: int, max_entries: int, flags: int = 0, inner_fd: int = 0
    ) -> Map:
        """A new map; it dies with its last descriptor unless pinned or put into a map of maps."""
        opts = MapCreateOpts(sz=ctypes.sizeof(MapCreateOpts), map_flags=flags, inner_map_fd=inner_fd)
        fd: int = lib().bpf_map_create(kind, name.encode()[:15], key_size, value_size, max_entries, ctypes.byref(opts))
        if fd < 0:
            advice = "not enough memory for it" if fd == -errno.ENOMEM else ""
            fail(f"creating map {name} ({max_entries} entries of {value_size} bytes)", fd, advice)
        return cls(fd, name)

    def pin(self, path: Path) -> None:
        """Keep the map at `path`, on a bpffs, beyond this process."""
        result = lib().bpf_obj_pin(self.fd, os.fsencode(path))
        if result:
            fail(f"pinning map {self.name} at {path}", result, _pin_advice(result))

    def _key(self, key: bytes | int) -> bytes:
        raw = key.to_bytes(4, "little") if isinstance(key, int) else key
        if len(raw) != self.key_size:
            raise BpfError(f"map {self.name}: a key has {self.key_size} bytes, not {len(raw)}")
        return raw

    def lookup(self, key: bytes | int) -> bytes | None:
        """Value of `key` (an int for arrays), or None when it is absent."""
        buffer = ctypes.create_string_buffer(self.value_bytes)
        result = lib().bpf_map_lookup_elem(self.fd, self._key(key), buffer)
        if result == -errno.ENOENT:
            return None
        if result:
            fail(f"look-up in map {self.name}", result)
        return buffer.raw

    def update(self, key: bytes | int, value: bytes, flags: int = BPF_ANY) -> None:
        """Set `key`. BpfError with errno E2BIG when the map is full, EEXIST/ENOENT as `flags` ask."""
        if len(value) != self.value_bytes:
            raise BpfError(f"map {self.name}: a value has {self.value_bytes} bytes, not {len(value)}")
        result = lib().bpf_map_update_elem(self.fd, self._key(key), value, flags)
        if result:
            full = f"full: {self.max_entries} entries" if result in (-errno.E2BIG, -errno.ENOSPC) else ""
            fail(f"update of map {self.name}", result, full)

    def update_fd(self, key: int, inner: Map, flags: int = BPF_ANY) -> None:
        """Put map `inner` at index `key` of a map of maps. Returns when no program can still see the old one."""
        self.update(key, inner.fd.to_bytes(4, "little"), flags)

    def update_batch(self, keys: bytes, values: bytes) -> None:
        """Set many elements at once: `keys` and `values` are concatenated."""
        total = len(keys) // self.key_size
        if total * self.key_size != len(keys) or total * self.value_bytes != len(values):
            raise BpfError(f"map {self.name}: {len(keys)} bytes of keys and {len(values)} of values do not match")
        if not total:
            return
        count = c_uint32(total)
        opts = BatchOpts(sz=ctypes.sizeof(BatchOpts))
        result = lib().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(count), ctypes.byref(opts))
        if result:
            full = f"full: {self.max_entries} entries" if result in (-errno.E2BIG, -errno.ENOSPC) else ""
            fail(f"update of {total} elements of map {self.name} ({count.value} done)", result, full)

    def delete(self, key: bytes | int) -> bool:
        """Remove `key`; False when it was absent."""
        result = lib().bpf_map_delete_elem(self.fd, self._key(key))
        if result == -errno.ENOENT:
            return False
        if result:
            fail(f"removal from map {self.name}", result)
        return True

    def keys(self) -> list[bytes]:
        """Every key, one system call each. Bounded by `max_entries` plus what is added meanwhile."""
        out: list[bytes] = []
        previous: bytes | None = None
        for _ in range(2 * self.max_entries + 1):
            buffer = ctypes.create_string_buffer(self.key_size)
            result = lib().bpf_map_get_next_key(self.fd, previous, buffer)
            if result == -errno.ENOENT:
                break
            if result:
                fail(f"walk of map {self.name}", result)
            previous = buffer.raw
            out.append(previous)
        return out

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every element: batches where the kernel has them for this type, else one by one."""
        try:
            keys, values = self.read_all()
        except BpfError as e:
            if e.errno not in (errno.EINVAL, ENOTSUPP, errno.EOPNOTSUPP):
                raise
            for key in self.keys():
                value = self.lookup(key)
                if value is not None:
                    yield key, value
            return
        k, v = self.key_size, self.value_bytes
        for i in range(len(keys) // k):
            yield keys[i * k : i * k + k], values[i * v : i * v + v]

    def read_all(self) -> tuple[bytes, bytes]:
        """All keys and all values, concatenated, by batches. Elements that move meanwhile may be missed or doubled."""
        size = min(max(self.max_entries, 1), BATCH)
        cursor = ctypes.create_string_buffer(max(self.key_size, 8))
        opts = BatchOpts(sz=ctypes.sizeof(BatchOpts))
        started, keys_out, values_out = False, bytearray(), bytearray()
        while len(keys_out) <= 2 * self.max_entries * self.key_size:
            count = c_uint32(size)
            keys = ctypes.create_string_buffer(size * self.key_size)
            values = ctypes.create_string_buffer(size * self.value_bytes)
            result = lib().bpf_map_lookup_batch(
                self.fd, cursor if started else None, cursor, keys, values, ctypes.byref(count), ctypes.byref(opts)
            )
            if result == -errno.ENOSPC and size < 2 * self.max_entries:  # a hash bucket larger than the batch
                size *= 2
                continue
            if result and result != -errno.ENOENT:
                fail(f"reading map {self.name}", result)
            keys_out += memoryview(keys)[: count.value * self.key_size]
            values_out += memoryview(values)[: count.value * self.value_bytes]
            if result == -errno.ENOENT:
                break
            started = True
        return bytes(keys_out), bytes(values_out)

    def clear(self) -> int:
        """Remove every element; how many."""
        return sum(self.delete(key) for key in self.keys())

    def mmap(self) -> memoryview:
        """The whole of a BPF_F_MMAPABLE array as writable memory, `max_entries` values of `value_size` rounded up to 8.

        The mapping lives as long as a view of it does.
        """
        size = (self.value_size + 7) // 8 * 8 * self.max_entries
        whole = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        try:
            mapped = mmap.mmap(self.fd, whole, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as e:
            fail(f"mapping {size} bytes of map {self.name}", e.errno or 0)
        return memoryview(mapped)[:size]


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


class Program(_Descriptor):
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


def enable_stats() -> _Descriptor:
    """Have the kernel time every program until the returned descriptor is closed."""
    fd: int = lib().bpf_enable_stats(0)
    if fd < 0:
        fail("run-time statistics", fd)
    return _Descriptor(fd)


def _pin_advice(result: int) -> str:
    if result == -errno.EEXIST:
        return "something is pinned there already"
    return "is the directory on a mounted bpffs?" if result in (-errno.EPERM, -errno.EINVAL, -errno.ENOENT) else ""


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
