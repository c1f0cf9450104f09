"""Frames of the hold worker: cut again at the sender's size, complete, or turned into a refusal. Pure.

A held frame comes as the kernel had it: possibly several segments merged into one (GRO, or the sender's own offload),
with a transport checksum that is complete, or only the pseudo-header's sum left for the hardware to finish, and without
its outermost VLAN tag, which the kernel keeps beside the frame. Here it becomes frames that any receiver accepts,
whatever the offload settings of the port they leave by; PACKET_VNET_HDR would do the same, but only for some kernels
and tags.
"""

from __future__ import annotations

import array
import struct
import sys
from dataclasses import dataclass

from vigie.filter.decode.frames import Frame, parse

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_CSUM_AT = {TCP: 16, UDP: 6}
FIN, SYN, RST, PSH, ACK, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x80
_TAG = struct.Struct("!HH")
_TPID = 0x8100
_ADMIN_PROHIBITED4 = (3, 13)  # RFC 1812, 5.2.7.1
_ADMIN_PROHIBITED6 = (1, 1)  # RFC 4443, 3.1
_QUOTE4 = 8  # bytes of the transport header quoted, RFC 792
_HOPS = 64


def sum16(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Ones' complement sum (RFC 1071), folded, not inverted."""
    raw = bytes(data)
    words = array.array("H", raw if len(raw) % 2 == 0 else raw + b"\0")
    if sys.byteorder == "little":
        words.byteswap()
    total = start + sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_sum(src: bytes, dst: bytes, proto: int, length: int) -> int:
    """Folded sum of the pseudo-header; addresses of 4 or 16 bytes."""
    return sum16(src + dst + struct.pack("!IHBB", length, 0, 0, proto))


def transport_checksum(src: bytes, dst: bytes, proto: int, segment: bytes) -> int:
    """Checksum of a transport segment whose checksum field is zero; UDP's 0 is sent as 0xffff (RFC 768)."""
    value = ~sum16(segment, pseudo_sum(src, dst, proto, len(segment))) & 0xFFFF
    return 0xFFFF if value == 0 and proto == UDP else value


@dataclass(frozen=True, slots=True)
class Segment:
    """One frame as it is to be sent, and what of it the assembler reads."""

    data: bytes
    frame: Frame


def segments(data: bytes, gso_size: int, vlan: int | None) -> list[Segment]:
    """The frames that a held frame stands for, in order. `vlan`: the outermost tag, kept outside of `data`.

    A frame without a readable TCP or UDP header is returned as it is (with its tag).
    """
    frame = parse(data)
    if frame.l4 == 0 or frame.proto not in _CSUM_AT or frame.is_fragment:
        return [_tagged(data, vlan)]
    size = frame.end - frame.payload_start
    if gso_size and size > gso_size:
        return [_tagged(piece, vlan) for piece in _cut(frame, gso_size)]
    return [_tagged(_completed(frame, merged=bool(gso_size)), vlan)]


def _tagged(data: bytes, vlan: int | None) -> Segment:
    if vlan is not None:
        data = data[:12] + _TAG.pack(_TPID, vlan & 0x0FFF) + data[12:]
    return Segment(data, parse(data))


def _completed(frame: Frame, merged: bool) -> bytes:
    """The frame with a whole checksum, if all that is missing is the payload's sum; a wrong one is left wrong."""
    data = frame.data
    at = frame.l4 + _CSUM_AT[frame.proto]
    field = int.from_bytes(data[at : at + 2], "big")
    length = frame.end - frame.l4
    if not merged and field != pseudo_sum(frame.src, frame.dst, frame.proto, length):
        return data
    out = bytearray(data)
    _fill_checksum(out, frame, frame.end)
    return bytes(out)


def _fill_checksum(out: bytearray, frame: Frame, end: int) -> None:
    at = frame.l4 + _CSUM_AT[frame.proto]
    out[at : at + 2] = b"\0\0"
    value = transport_checksum(frame.src, frame.dst, frame.proto, bytes(out[frame.l4 : end]))
    out[at : at + 2] = value.to_bytes(2, "big")


def _cut(frame: Frame, gso_size: int) -> list[bytes]:
    """The segments that were merged: lengths, IPv4 identifiers, sequence numbers and flags as the sender's were."""
    head = frame.data[: frame.payload_start]
    payload = frame.data[frame.payload_start : frame.end]
    out = []
    for number, start in enumerate(range(0, len(payload), gso_size)):
        piece = bytearray(head + payload[start : start + gso_size])
        last = start + gso_size >= len(payload)
        _set_lengths(piece, frame, number)
        if frame.proto == TCP:
            sequence = (frame.seq + start) & 0xFFFFFFFF
            piece[frame.l4 + 4 : frame.l4 + 8] = sequence.to_bytes(4, "big")
            if not last:
                piece[frame.l4 + 13] &= ~(FIN | PSH) & 0xFF
            if number:
                piece[frame.l4 + 13] &= ~CWR & 0xFF
        else:
            piece[frame.l4 + 4 : frame.l4 + 6] = (len(piece) - frame.l4).to_bytes(2, "big")
        _fill_checksum(piece, frame, len(piece))
        out.append(bytes(piece))
    return out


def _set_lengths(piece: bytearray, frame: Frame, number: int) -> None:
    at = frame.l3
    if frame.family == 6:
        piece[at + 4 : at + 6] = (len(piece) - at - 40).to_bytes(2, "big")
        return
    piece[at + 2 : at + 4] = (len(piece) - at).to_bytes(2, "big")
    identifier = (int.from_bytes(piece[at + 4 : at + 6], "big") + number) & 0xFFFF
    piece[at + 4 : at + 6] = identifier.to_bytes(2, "big")
    header = (piece[at] & 0x0F) * 4
    piece[at + 10 : at + 12] = b"\0\0"
    piece[at + 10 : at + 12] = (~sum16(piece[at : at + header]) & 0xFFFF).to_bytes(2, "big")


# ---- refusals --------------------------------------------------------------------------------------------------


def reset_to_client(frame: Frame) -> bytes:
    """A RST as the server would send it: in sequence for the client, acknowledging what it sent."""
    ack = int.from_bytes(frame.data[frame.l4 + 8 : frame.l4 + 12], "big")
    consumed = len(frame.payload) + bool(frame.tcp_flags & SYN) + bool(frame.tcp_flags & FIN)
    segment = _reset(frame.dport, frame.sport, ack, (frame.seq + consumed) & 0xFFFFFFFF)
    return _reply(frame, TCP, _checked(frame.dst, frame.src, TCP, segment, 16))


def reset_to_server(frame: Frame) -> bytes:
    """A RST as the client would send it, at the sequence number that the server expects: `frame` is the first held."""
    ack = int.from_bytes(frame.data[frame.l4 + 8 : frame.l4 + 12], "big")
    segment = _checked(frame.src, frame.dst, TCP, _reset(frame.sport, frame.dport, frame.seq, ack), 16)
    return _link_header(frame, frame.dmac, frame.smac) + _ip(frame.family, frame.src, frame.dst, TCP, segment)


def prohibited(frame: Frame) -> bytes:
    """ICMP or ICMPv6 "administratively prohibited" to the sender, quoting the header and 8 bytes."""
    quote = frame.data[frame.l3 : min(frame.l4 + _QUOTE4, frame.end)]
    kind, code = _ADMIN_PROHIBITED4 if frame.family == 4 else _ADMIN_PROHIBITED6
    message = struct.pack("!BBHI", kind, code, 0, 0) + quote
    if frame.family == 4:
        value = ~sum16(message) & 0xFFFF
        return _reply(frame, ICMP, message[:2] + value.to_bytes(2, "big") + message[4:])
    return _reply(frame, ICMP6, _checked(frame.dst, frame.src, ICMP6, message, 2))


def _reset(sport: int, dport: int, seq: int, ack: int) -> bytes:
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, RST | ACK, 0, 0, 0)


def _checked(src: bytes, dst: bytes, proto: int, segment: bytes, at: int) -> bytes:
    value = transport_checksum(src, dst, proto, segment)
    return segment[:at] + value.to_bytes(2, "big") + segment[at + 2 :]


def _reply(frame: Frame, proto: int, payload: bytes) -> bytes:
    return _link_header(frame, frame.smac, frame.dmac) + _ip(frame.family, frame.dst, frame.src, proto, payload)


def _link_header(frame: Frame, dmac: bytes, smac: bytes) -> bytes:
    """Ethernet header with the tags of the frame."""
    return dmac + smac + frame.data[12 : frame.l3]


def _ip(family: int, src: bytes, dst: bytes, proto: int, payload: bytes) -> bytes:
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), proto, _HOPS) + src + dst + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, _HOPS, proto, 0, src, dst)
    value = ~sum16(head) & 0xFFFF
    return head[:10] + value.to_bytes(2, "big") + head[12:] + payload
