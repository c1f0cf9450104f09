"""Columns of numbers as compressed byte planes, and back.

The first bytes of all elements, then the second bytes, and so on: planes that say little compress to nothing, planes
of noise cost what they must. Sorted columns are stored as differences, whose high planes are empty.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Column = npt.NDArray[np.unsignedinteger[Any]]
#: Largest window that the decompressor grants: 16 MB, whatever a frame asks for.
WINDOW_LOG: Final = 24
LEVEL: Final = 10


def compress(data: bytes) -> bytes:
    """One zstd frame."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.window_log: WINDOW_LOG,
    }
    return zstd.compress(data, options=options)


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """Content of one zstd frame of exactly `size` bytes. Raises ValueError for anything else; never makes more."""
    machine = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
    try:
        # One byte more than announced, so that a frame that holds more is seen without being unpacked.
        out = machine.decompress(data, max_length=size + 1)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(out) != size or not machine.eof or machine.unused_data:
        raise ValueError(f"compressed part does not hold the {size} bytes announced")
    return out


def planes_needed(column: Column) -> int:
    """Bytes that the largest element takes."""
    return (int(column.max()).bit_length() + 7) // 8 if len(column) else 0


def to_planes(column: Column) -> bytes:
    """Planes of a column, lowest first, the empty ones at the end left out."""
    little = np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False)
    rows = little.view(np.uint8).reshape(len(column), column.dtype.itemsize)
    return b"".join(rows[:, i].tobytes() for i in range(planes_needed(column)))


def from_planes(data: bytes, count: int, dtype: type[np.unsignedinteger[Any]]) -> Column:
    """Inverse of :func:`to_planes`; len(data) is a multiple of `count`."""
    planes = np.frombuffer(data, np.uint8).reshape(-1, count) if count else np.zeros((0, 0), np.uint8)
    width = np.dtype(dtype).itemsize
    if len(planes) == width == 1:
        return np.frombuffer(data, dtype)
    rows = np.empty((count, width), np.uint8)
    for i in range(width):
        rows[:, i] = planes[i] if i < len(planes) else 0
    return rows.reshape(-1).view(np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)


def to_deltas(column: Column) -> Column:
    """A sorted column as its first element and the differences."""
    out = column.copy()
    out[1:] = column[1:] - column[:-1]
    return out


def sum_deltas(column: Column) -> Column:
    """Inverse of :func:`to_deltas`, in place; wraps round on overflow, which a check of the order then shows."""
    np.cumsum(column, out=column, dtype=column.dtype)
    return column
