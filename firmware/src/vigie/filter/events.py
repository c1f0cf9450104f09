"""Records of the ring buffers as Python values: one at a time (`decode`) or many as columns (`decode_batch`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import Category, EventKind, Reason, Verdict
from vigie.errors import DecodeError
from vigie.filter import abi

_HEAD: Final = struct.Struct("=QH6B6s6sH2B16s16s2H2I2BHQII")
assert _HEAD.size == abi.EVENT.itemsize  # noqa: S101 - two spellings of one structure

_KINDS: Final = {int(k): k for k in EventKind}
_VERDICTS: Final = {int(v): v for v in Verdict}
_REASONS: Final = {int(r): r for r in Reason}
_CATEGORIES: Final = {int(c): c for c in Category}

TO_INTERNET: Final = 1
FROM_INTERNET: Final = 2


class Event(NamedTuple):
    """One report of the data path, immutable (a tuple: made ten times faster than a frozen dataclass).

    Addresses and MACs are raw (16 and 6 bytes); the properties give text. ns: CLOCK_MONOTONIC. sport, dport: ICMP
    type and code for ICMP. vlan: None when untagged. family: 4, 6, or 0 for frames that are not IP. direction: 1 to
    the internet, 2 from it, 0 unknown or local. name_hash: of a held frame, its hold. payload: see verdicts.h.
    """

    ns: int
    kind: EventKind
    verdict: Verdict
    reason: Reason
    port: int
    category: Category
    class_id: int
    smac: bytes
    dmac: bytes
    vlan: int | None
    proto: int
    family: int
    src_raw: bytes
    dst_raw: bytes
    sport: int
    dport: int
    frame_len: int
    gen: int
    tcp_flags: int
    direction: int
    gso_size: int
    name_hash: int
    remote_rank: int
    payload: bytes

    @property
    def src(self) -> str:
        """Source address as text, empty when the frame is not IP."""
        return abi.address_text(self.src_raw) if self.family else ""

    @property
    def dst(self) -> str:
        """Destination address as text, empty when the frame is not IP."""
        return abi.address_text(self.dst_raw) if self.family else ""

    @property
    def smac_text(self) -> str:
        """Source MAC as `aa:bb:cc:dd:ee:ff`."""
        return abi.mac_text(self.smac)

    @property
    def dmac_text(self) -> str:
        """Destination MAC as `aa:bb:cc:dd:ee:ff`."""
        return abi.mac_text(self.dmac)

    @property
    def device_mac(self) -> bytes:
        """MAC of the LAN end: the destination's for a frame from the internet, else the source's."""
        return self.dmac if self.direction == FROM_INTERNET else self.smac

    @property
    def remote_raw(self) -> bytes:
        """Address of the other end, raw: the source's for a frame from the internet, else the destination's."""
        return self.src_raw if self.direction == FROM_INTERNET else self.dst_raw

    @property
    def remote(self) -> str:
        """Address of the other end as text."""
        return abi.address_text(self.remote_raw) if self.family else ""

    @property
    def name(self) -> str:
        """The payload as a name, for kinds whose payload is one (BLOCKED, OBSERVED, NAME); odd bytes are escaped."""
        return self.payload.decode("ascii", "backslashreplace")


def decode(record: bytes) -> Event:
    """One record. DecodeError when it is too short or holds a number this program does not know."""
    try:
        head = _HEAD.unpack_from(record)
    except struct.error as e:
        raise DecodeError(f"event of {len(record)} bytes: {_HEAD.size} at least are needed") from e
    (ns, length, kind, verdict, reason, port, category, class_id, smac, dmac, vlan, proto, family, src, dst,
     sport, dport, frame_len, gen, tcp_flags, direction, gso_size, name_hash, rank, _) = head  # fmt: skip
    payload = record[_HEAD.size : _HEAD.size + length]
    if len(payload) != length:
        raise DecodeError(f"event says {length} bytes of payload and has {len(record) - _HEAD.size}")
    try:
        return Event(
            ns, _KINDS[kind], _VERDICTS[verdict], _REASONS[reason], port, _CATEGORIES[category], class_id, smac, dmac,
            None if vlan == abi.NO_VLAN else vlan, proto, family, src, dst, sport, dport, frame_len, gen, tcp_flags,
            direction, gso_size, name_hash, rank, payload,
        )  # fmt: skip
    except KeyError as e:
        raise DecodeError(
            f"event of kind {kind}, verdict {verdict}, reason {reason}, category {category}: {e} is unknown; "
            "the data path and this program are not of one version"
        ) from e


def decode_batch(records: Sequence[bytes]) -> npt.NDArray[np.void]:
    """The fixed parts of `records` as one array of `abi.EVENT` (shape (n,)): for counting without making objects.

    Payloads are `records[i][96:96 + out["payload_len"][i]]`. DecodeError when a record is too short.
    """
    size = _HEAD.size
    if any(len(record) < size for record in records):
        raise DecodeError(f"an event shorter than {size} bytes")
    return np.frombuffer(b"".join([record[:size] for record in records]), dtype=abi.EVENT)


def encode(event: Event) -> bytes:
    """The record that decodes to `event`: for tests and simulators."""
    return _HEAD.pack(
        event.ns, len(event.payload), event.kind, event.verdict, event.reason, event.port, event.category,
        event.class_id, event.smac, event.dmac, abi.NO_VLAN if event.vlan is None else event.vlan, event.proto,
        event.family, event.src_raw, event.dst_raw, event.sport, event.dport, event.frame_len, event.gen,
        event.tcp_flags, event.direction, event.gso_size, event.name_hash, event.remote_rank, 0,
    ) + event.payload  # fmt: skip
