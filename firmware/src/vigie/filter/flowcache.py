"""The flow cache as numpy columns on the shared memory: views, consistent copies, look-up, insertion.

`flow_hash` is that of `firmware/bpf/flow.h`, word for word: a test runs real frames and finds their entries with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import Reason, Verdict
from vigie.errors import LayoutError
from vigie.filter import abi
from vigie.filter.control import Control
from vigie.filter.events import Event
from vigie.filter.libbpf import Map, fence

Flows = npt.NDArray[np.void]
U64 = npt.NDArray[np.uint64]

_K1: Final = np.uint64(0x9E3779B97F4A7C15)
_K2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_K3: Final = np.uint64(0x165667B19E3779F9)
_K4: Final = np.uint64(0xD6E8FEB86659FD93)
_K5: Final = np.uint64(0xA0761D6478BD642F)
_N1, _N2, _N3, _N4, _N5 = (int(k) for k in (_K1, _K2, _K3, _K4, _K5))
_WORDS: Final = struct.Struct("=5Q")
_TAG: Final = struct.Struct("@Q")  # native: read as one word
_MASK64: Final = (1 << 64) - 1
_WAY_MASK: Final = abi.FLOW_WAYS - 1


def flow_hashes(keys: Flows, seed: int) -> U64:
    """Tags of `keys` (dtype `abi.FLOW_KEY`, shape (n,)) -> shape (n,). Never 0."""
    w = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 5)
    s = np.uint64(seed & _MASK64)
    h = (w[:, 0] ^ s) * _K1
    with np.errstate(over="ignore"):  # 64-bit arithmetic wraps, as in C
        h ^= (w[:, 1] + s) * _K2
        h ^= (w[:, 2] ^ (s >> np.uint64(7))) * _K3
        h ^= (w[:, 3] + _K5) * _K4
        h ^= (w[:, 4] ^ _K2) * _K5
        h ^= h >> np.uint64(32)
        h *= _K1
    h ^= h >> np.uint64(29)
    h[h == 0] = 1
    return h


def flow_hash(key: bytes, seed: int) -> int:
    """Tag of one key (40 bytes): `flow_hashes` without numpy, which is slow on single numbers."""
    w0, w1, w2, w3, w4 = _WORDS.unpack(key)
    h = (w0 ^ seed) * _N1
    h ^= (w1 + seed & _MASK64) * _N2
    h ^= (w2 ^ seed >> 7) * _N3
    h ^= (w3 + _N5 & _MASK64) * _N4
    h ^= (w4 ^ _N2) * _N5
    h &= _MASK64
    h ^= h >> 32
    h = h * _N1 & _MASK64
    return (h ^ h >> 29) or 1


def key_bytes(a: Any, b: Any, port_a: int, port_b: int, proto: int, family: int, vlan: int | None = None) -> bytes:
    """A flow key; `a` is the end behind port 0."""
    return abi.pack(
        abi.FLOW_KEY, a=abi.address_bytes(a), b=abi.address_bytes(b), pa=port_a, pb=port_b, proto=proto,
        family=family, vlan=abi.NO_VLAN if vlan is None else vlan,
    )  # fmt: skip


def key_of_event(event: Event) -> bytes:
    """Key of the TCP or UDP flow that an event belongs to."""
    ends = (event.src_raw, event.dst_raw, event.sport, event.dport)
    if event.port == 1:
        ends = (event.dst_raw, event.src_raw, event.dport, event.sport)
    return key_bytes(*ends, event.proto, event.family, event.vlan)


class FlowCache:
    """`rows` is the whole cache (dtype `abi.FLOW`, shape (FLOW_COUNT,)) on the shared memory; tag 0 = free."""

    def __init__(self, flows: Map, tags: Map, control: Control) -> None:
        if flows.value_size != abi.FLOW.itemsize or flows.max_entries != abi.FLOW_COUNT:
            raise LayoutError(f"map flows has {flows.max_entries} entries of {flows.value_size} bytes")
        self._memory = flows.mmap()
        self.rows: Flows = np.frombuffer(self._memory, dtype=abi.FLOW, count=abi.FLOW_COUNT)
        self._tags = np.frombuffer(tags.mmap(), dtype=np.uint16, count=abi.FLOW_COUNT)
        self._control = control

    @property
    def seed(self) -> int:
        """Key of the flow hash."""
        return int(self._control.record["flow_seed"])

    def chunks(self, size: int = 16384) -> Iterator[Flows]:
        """`snapshot` in parts made from `size` places each, so that a full cache needs no 64 MB at once."""
        for start in range(0, abi.FLOW_COUNT, size):
            rows = self.rows[start : start + size]
            used = np.flatnonzero(rows["tag"])
            if not len(used):
                continue
            copies = rows[used]
            fence()
            same = rows["tag"][used] == copies["tag"]
            # A half-written entry has another tag, or check bits that are not its tag's.
            good = same & ((copies["meta"] & np.uint64(0xFFFF)) == (copies["tag"] >> np.uint64(48)))
            yield copies if good.all() else copies[good]

    def snapshot(self) -> Flows:
        """Copies of the entries in use that did not change hands while they were copied. Shape (n,)."""
        parts = list(self.chunks())
        return np.concatenate(parts) if parts else np.zeros(0, dtype=abi.FLOW)

    def find(self, key: bytes) -> int | None:
        """Index of the entry of `key` (40 bytes), or None."""
        tag = flow_hash(key, self.seed)
        home = tag & (abi.FLOW_COUNT - 1)
        for way in range(abi.FLOW_WAYS):
            index = (home & ~_WAY_MASK) | ((home + way) & _WAY_MASK)
            at = index * abi.FLOW.itemsize
            if _TAG.unpack_from(self._memory, at)[0] == tag and self._memory[at + 8 : at + 48] == key:
                return index
        return None

    def insert(self, flows: Flows) -> int:
        """Add entries (dtype `abi.FLOW`; `tag` and the check bits are computed here) whose keys are not there yet.

        Verdicts are kept, their epoch is made old, so that the first packet decides again with the same opener. An
        entry whose group of FLOW_WAYS is full is left out. Returns how many were added.
        """
        rows = self.rows
        new = flows.copy()
        tags = flow_hashes(new["key"], self.seed)
        _, first = np.unique(tags, return_index=True)
        new, tags = new[first], tags[first]
        stale = np.uint64((self._control.gen - 4) & 0xFFFFFFFF)
        middle = new["meta"] & np.uint64(0xFFFF0000)
        new["meta"] = stale << np.uint64(32) | middle | tags >> np.uint64(48)
        new["tag"] = 0
        home = (tags & np.uint64(abi.FLOW_COUNT - 1)).astype(np.int64)
        waiting = np.arange(len(new))
        ways = [(home & ~_WAY_MASK) | ((home + way) & _WAY_MASK) for way in range(abi.FLOW_WAYS)]
        present = np.zeros(len(new), dtype=bool)
        for places in ways:
            present |= rows["tag"][places] == tags
        waiting = waiting[~present]
        added = 0
        for places in ways:
            free = waiting[rows["tag"][places[waiting]] == 0]
            _, chosen = np.unique(places[free], return_index=True)  # two entries may want one place
            winners = free[chosen]
            rows[places[winners]] = new[winners]
            fence()
            rows["tag"][places[winners]] = tags[winners]
            short = (tags[winners] >> np.uint64(32)).astype(np.uint16)
            self._tags[places[winners]] = np.where(short == 0, np.uint16(1), short)
            added += len(winners)
            waiting = np.setdiff1d(waiting, winners, assume_unique=True)
        return added


class Holds:
    """The holds under way (dtype `abi.HOLD`), beside the entries of the cache: the data path begins, this answers."""

    def __init__(self, holds: Map, cache: FlowCache) -> None:
        if holds.value_size != abi.HOLD.itemsize or holds.max_entries != abi.FLOW_COUNT:
            raise LayoutError(f"map holds has {holds.max_entries} entries of {holds.value_size} bytes")
        self.rows: Flows = np.frombuffer(holds.mmap(), dtype=abi.HOLD, count=abi.FLOW_COUNT)
        self._answers = self.rows["answer"]
        self._cache = cache

    def answer(self, key: bytes, start_ns: int, verdict: Verdict, reason: Reason) -> bool:
        """Says what becomes of the hold of `key` that began at `start_ns`; the data path obeys at the next packet.

        One word, of which the data path alone is the reader: when the hold is over, or the entry another connection's
        by now, it matches nothing. False when there is no such entry.
        """
        index = self._cache.find(key)
        if index is None:
            return False
        self._answers[index] = abi.join_answer(start_ns, verdict, reason)
        return True
