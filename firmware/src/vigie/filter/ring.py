"""Consumer of a BPF ring buffer: the two position pages and the data are mapped, records come out as bytes.

Layout (kernel/bpf/ringbuf.c, uapi bpf.h): page 0 the consumer's position, page 1 the producer's, then the data, mapped
twice in a row so that no record is ever cut by the end. A record is an 8-byte header (u32 length with two flag bits,
u32 page offset) and its bytes, rounded up to 8.

Memory order. The kernel publishes with release stores: the producer's position after a record is reserved (busy), its
header's busy bit after it is filled. A reader must not load the later thing first, and arm64 reorders plain loads. So a
`read` loads the position, fences, walks the headers, fences, copies the records, fences, and stores its own position.
All positions are single aligned machine words.
"""

from __future__ import annotations

import mmap
import select
from typing import Final

import numpy as np

from vigie.errors import BpfError
from vigie.filter.libbpf import TYPE_RINGBUF, Map, fail, fence

BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30
LENGTH: Final = DISCARD - 1
HEADER_BYTES: Final = 8


class RingReader:
    """The one consumer of a ring buffer map. `fd` becomes readable (epoll, select) when there is something to read."""

    def __init__(self, ring: Map) -> None:
        if ring.type != TYPE_RINGBUF:
            raise BpfError(f"map {ring.name} is of type {ring.type}, not a ring buffer")
        self._map = ring
        self.fd = ring.fd
        self.size = ring.max_entries
        page = mmap.PAGESIZE
        try:
            consumer = mmap.mmap(ring.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
            producer = mmap.mmap(ring.fd, page + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as e:
            fail(f"mapping ring buffer {ring.name}", e.errno or 0)
        # numpy and memoryview read and write an element as one aligned word.
        self._consumer = np.frombuffer(consumer, dtype=np.uint64, count=1)
        self._producer = np.frombuffer(producer, dtype=np.uint64, count=1)
        view = memoryview(producer)[page:]
        self._headers = view.cast("I")
        self._data = view
        self._mask = self.size - 1
        self.discarded = 0

    def pending(self) -> int:
        """Bytes reserved and not yet consumed, headers included."""
        return int(self._producer[0]) - int(self._consumer[0])

    def read(self, max_records: int = 4096) -> list[bytes]:
        """Up to `max_records` records in order, without waiting. Stops at a record still being written."""
        position = int(self._consumer[0])
        end = int(self._producer[0])
        if position >= end:
            return []
        fence()
        headers, mask = self._headers, self._mask
        spans: list[tuple[int, int]] = []
        append = spans.append
        while position < end and len(spans) < max_records:
            start = position & mask
            word = headers[start >> 2]
            if word & BUSY:
                break
            length = word & LENGTH
            position += (length + HEADER_BYTES + 7) & ~7
            if word & DISCARD:
                self.discarded += 1
            else:
                start += HEADER_BYTES
                append((start, start + length))
        fence()
        data = self._data
        records = [data[a:b].tobytes() for a, b in spans]
        fence()
        self._consumer[0] = position
        return records

    def wait(self, timeout_s: float) -> bool:
        """Block until there is something to read; False after `timeout_s`. For programs without an event loop."""
        with select.epoll() as poll:
            poll.register(self.fd, select.EPOLLIN)
            return bool(poll.poll(timeout_s))
