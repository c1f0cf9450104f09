"""BPF maps: keys and values as bytes, batches, shared memory, pins."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import weakref
from collections.abc import Iterator
from ctypes import c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie.errors import BpfError
from vigie.filter.bpfcalls import ENOTSUPP, BatchOpts, MapCreateOpts, RawMapInfo, fail, lib, possible_cpus

# Kernel numbers, include/uapi/linux/bpf.h.
TYPE_HASH, TYPE_ARRAY, TYPE_PERCPU_HASH, TYPE_PERCPU_ARRAY = 1, 2, 5, 6
TYPE_LRU_HASH, TYPE_LRU_PERCPU_HASH, TYPE_LPM_TRIE, TYPE_ARRAY_OF_MAPS, TYPE_RINGBUF = 9, 10, 11, 12, 27
PER_CPU_TYPES: Final = frozenset({TYPE_PERCPU_HASH, TYPE_PERCPU_ARRAY, TYPE_LRU_PERCPU_HASH})
BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
BPF_F_NO_PREALLOC: Final = 1 << 0
BPF_F_MMAPABLE: Final = 1 << 10
BPF_F_INNER_MAP: Final = 1 << 12

BATCH: Final = 4096


def pin_advice(result: int) -> str:
    if result == -errno.EEXIST:
        return "something is pinned there already"
    return "is the directory on a mounted bpffs?" if result in (-errno.EPERM, -errno.EINVAL, -errno.ENOENT) else ""


class Descriptor:
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


class Map(Descriptor):
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
            fail(f"pinning map {self.name} at {path}", result, pin_advice(result))

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
