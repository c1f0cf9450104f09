"""Memory shared with the data path, as numpy types: the Python side of `firmware/bpf/layout.h`.

Same names, same sizes, same offsets; `tests/unit/datapath/test_abi.py` compiles the header and compares every
field. Addresses are 16 bytes in wire order (IPv4 is v4-mapped), MACs 6 bytes in wire order; everything else is in
the byte order of the machine. Times are CLOCK_MONOTONIC: `*_s` whole seconds, `*_ns` nanoseconds.

`pad*` fields are the padding that C adds or names; they are written as zero.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import EVENT_KINDS, REASON_COUNT
from vigie.errors import UsageError

LAYOUT_VERSION: Final = 2
PAGE_BYTES: Final = 4096
FOREVER: Final = 0xFFFFFFFF
ANY_MAC: Final = bytes(6)
MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"
"""First 12 bytes of an IPv4 address in a 16-byte field."""

# control.features
F_EXCEPTIONS: Final = 1 << 0
F_QUARANTINE: Final = 1 << 1
F_DYNAMIC: Final = 1 << 2
F_CLASS_POLICY: Final = 1 << 3
F_ESSENTIAL: Final = 1 << 4
F_INBOUND_ALLOW: Final = 1 << 5
F_LOCAL_NAMES: Final = 1 << 6
F_RESOLVED: Final = 1 << 7
F_HOLD: Final = 1 << 8
F_NO_LIMITS: Final = 1 << 9
F_TRACE: Final = 1 << 10

ONLINK_MAX: Final = 8
BOX_ADDR_MAX: Final = 8
BOX_PORT_MAX: Final = 8
GATEWAY_MAX: Final = 4

# images
IMAGE_SLOTS: Final = 5
IMAGE_SCRATCH: Final = 4
IMAGE_MAGIC: Final = 0x31474D49
KIND_BASE: Final = 0
KIND_GEO: Final = 1
PORT6_K1: Final = 0x9E3779B97F4A7C15
PORT6_K2: Final = 0xC2B2AE3D27D4EB4F
NAME_FINAL: Final = 0x9E3779B97F4A7C15
CLASS_NEVER: Final = 1 << 0
CLASS_PORTS: Final = 1 << 1
CLASS_FORCE: Final = 1 << 2
CLASS_COUNT: Final = 256

# flow cache
FLOW_COUNT: Final = 1 << 18
FLOW_WAYS: Final = 8
INIT_COUNT: Final = 1 << 20
FL_INSPECT: Final = 1 << 0
FL_HELLO: Final = 1 << 1
FL_HOLD: Final = 1 << 2
FL_REDIRECT0: Final = 1 << 3
FL_REDIRECT1: Final = 1 << 4
FL_ANSWERED: Final = 1 << 5
FL_CLOSED: Final = 1 << 6
FL_LOCAL: Final = 1 << 7
FL_NAMED: Final = 1 << 10
FL_INIT_SHIFT: Final = 8
FL_TCP_SHIFT: Final = 16
NO_VLAN: Final = 0xFFFF

# class_policy.kind
PK_DEFAULT: Final = 0
PK_COUNTRY: Final = 1
PK_AS: Final = 2

EVENT_PAYLOAD: Final = 576
HELD_BYTES: Final = 4096


def _struct(*fields: tuple[Any, ...]) -> np.dtype[np.void]:
    """A packed dtype: every byte of the C structure is a field, so that nothing is left to alignment rules."""
    return np.dtype([f if len(f) == 2 else (f[0], f[1], f[2]) for f in fields])


def _addr(name: str, *shape: int) -> tuple[Any, ...]:
    return (name, "u1", (*shape, 16))


def _mac(name: str) -> tuple[Any, ...]:
    return (name, "u1", (6,))


PREFIX: Final = _struct(_addr("net"), _addr("mask"))
BOX_PORT: Final = _struct(("port", "u2"), ("proto", "u1"), ("pad", "u1"))

CONTROL: Final = _struct(
    ("gen", "u4"),
    ("features", "u4"),
    ("layout", "u4"),
    ("wan_port", "i4"),
    ("ifindex", "u4", (2,)),
    ("mtu", "u4", (2,)),
    ("box_mac", "u1", (8,)),
    ("gw_mac", "u1", (2, 8)),
    ("inbound_mode", "u4"),
    ("isolation_level", "u4"),
    ("isolation_until", "u4"),
    ("grace_until", "u4"),
    ("loop_port", "u4"),
    ("hold_ms", "u4"),
    ("rate_out", "u4"),
    ("rate_in", "u4"),
    ("heartbeat_ns", "u8"),
    ("probe_nonce", "u8"),
    ("onlink_count", "u4"),
    ("box_addr_count", "u4"),
    ("box_port_count", "u4"),
    ("gateway_count", "u4"),
    ("onlink", PREFIX, (ONLINK_MAX,)),
    _addr("box_addr", BOX_ADDR_MAX),
    ("box_port", BOX_PORT, (BOX_PORT_MAX,)),
    _addr("gateway", GATEWAY_MAX),
    ("event_rate", "u4", (EVENT_KINDS,)),
    ("flow_seed", "u8"),
)

STATE: Final = _struct(("topo", "u4"), ("loop_port", "u4"), ("probe_seen_ns", "u8", (2,)))

SECTION: Final = _struct(("page", "u4"), ("count", "u4"))
SECTION_NAMES: Final = (
    "index4", "start4", "last4", "class4", "ports4",
    "index6", "start6_hi", "start6_lo", "last6_hi", "last6_lo", "class6",
    "index_name", "hash_name", "class_name",
    "value4", "value6", "ports6",
)  # fmt: skip
SECTION_TYPES: Final[dict[str, str]] = {
    "index4": "u4", "start4": "u4", "last4": "u4", "class4": "u1", "ports4": "u8",
    "index6": "u4", "start6_hi": "u8", "start6_lo": "u8", "last6_hi": "u8", "last6_lo": "u8", "class6": "u1",
    "index_name": "u4", "hash_name": "u8", "class_name": "u1",
    "value4": "u8", "value6": "u8", "ports6": "u8",
}  # fmt: skip
"""Element type of each section."""

IMAGE_HEADER: Final = _struct(
    ("magic", "u4"),
    ("version", "u4"),
    ("pages", "u4"),
    ("kind", "u4"),
    ("name_key", "u8"),
    ("name_seed", "u8"),
    ("shift4", "u4"),
    ("shift6", "u4"),
    ("shift_name", "u4"),
    ("pad", "u4"),
    *((name, SECTION) for name in SECTION_NAMES),
    ("serial", "u8"),
    ("digest", "u1", (32,)),
)

CLASS_ENTRY: Final = _struct(
    ("flags", "u1"),
    ("direction", "u1"),
    ("action", "u1"),
    ("category", "u1"),
    ("rank", "u1"),
    ("pad", "u1", (11,)),
)

FLOW_KEY: Final = _struct(
    _addr("a"),
    _addr("b"),
    ("pa", "u2"),
    ("pb", "u2"),
    ("proto", "u1"),
    ("family", "u1"),
    ("vlan", "u2"),
)

FLOW: Final = _struct(
    ("tag", "u8"),
    ("key", FLOW_KEY),
    ("meta", "u8"),
    ("flags", "u4"),
    ("last_s", "u4"),
    ("packets", "u8", (2,)),
    ("bytes", "u8", (2,)),
    ("first_s", "u4"),
    ("until_s", "u4"),
    _mac("mac_a"),
    _mac("mac_b"),
    ("topo", "u4"),
    ("class", "u1"),
    ("layer_class", "u1"),
    ("pad", "u1", (2,)),
    ("initial", "u4"),
)

HOLD: Final = _struct(("start_ns", "u8"), ("answer", "u8"))

FLOW_TAGS: Final = _struct(("tag", "u2", (FLOW_WAYS,)))

EXCEPTION_KEY: Final = _struct(("prefixlen", "u4"), _mac("mac"), ("pad", "u1", (6,)), _addr("addr"))
EXCEPTION_VALUE: Final = _struct(("until_s", "u4"), ("port", "u2"), ("proto", "u1"), ("action", "u1"))
EXCEPTION_MAC_BITS: Final = 96
"""Bits of an exception key before the address: the MAC and its padding."""

LOCAL_NAME_KEY: Final = _struct(("hash", "u8"), _mac("mac"), ("pad", "u2"))
LOCAL_NAME_VALUE: Final = _struct(("until_s", "u4"), ("action", "u1"), ("pad", "u1", (3,)))

MAC_KEY: Final = _struct(_mac("mac"), ("pad", "u2"))
UNTIL_VALUE: Final = _struct(("until_s", "u4"))
"""Value of `quarantine` and `inbound_allow` (a bare u32 in C)."""

DYNAMIC_KEY: Final = _struct(_mac("mac"), ("pad", "u2"), _addr("addr"))
DYNAMIC_VALUE: Final = _struct(("until_s", "u4"), ("cause", "u4"))

INBOUND_KEY: Final = _struct(_mac("mac"), ("proto", "u1"), ("pad", "u1"), ("port", "u2"), ("pad2", "u2"))

DEVICE_VALUE: Final = _struct(("class", "u1"), ("essential_rank", "u1"), ("pad", "u1", (2,)))

CLASS_POLICY_KEY: Final = _struct(("class", "u1"), ("kind", "u1"), ("pad", "u2"), ("value", "u4"))
ACTION_VALUE: Final = _struct(("action", "u4"))
"""Value of `class_policy` (a bare u32 in C)."""

ESSENTIAL_PORT_KEY: Final = _struct(("proto", "u1"), ("pad", "u1"), ("port", "u2"))
RANK_VALUE: Final = _struct(("rank", "u4"))
"""Value of `essential_ports` (a bare u32 in C)."""

ADDR_KEY: Final = _struct(_addr("b"))
RESOLVED_VALUE: Final = _struct(("until_s", "u4"), ("never", "u1"), ("rank", "u1"), ("pad", "u1", (2,)))
MAC_VALUE: Final = _struct(("port", "u4"), ("seen_s", "u4"))

EVENT: Final = _struct(
    ("ns", "u8"),
    ("payload_len", "u2"),
    ("kind", "u1"),
    ("verdict", "u1"),
    ("reason", "u1"),
    ("port", "u1"),
    ("category", "u1"),
    ("class", "u1"),
    _mac("smac"),
    _mac("dmac"),
    ("vlan", "u2"),
    ("proto", "u1"),
    ("family", "u1"),
    ("src", "u1", (16,)),
    ("dst", "u1", (16,)),
    ("sport", "u2"),
    ("dport", "u2"),
    ("frame_len", "u4"),
    ("gen", "u4"),
    ("tcp_flags", "u1"),
    ("direction", "u1"),
    ("gso_size", "u2"),
    ("name_hash", "u8"),
    ("remote_rank", "u4"),
    ("pad", "u4"),
)

COUNTER: Final = _struct(("packets", "u8"), ("bytes", "u8"))

DECISION: Final = _struct(
    ("verdict", "u1"),
    ("reason", "u1"),
    ("anomaly", "u1"),
    ("cached", "u1"),
    ("class", "u1"),
    ("category", "u1"),
    ("direction", "u1"),
    ("kind", "u1"),
    ("gen", "u4"),
    ("pad", "u4"),
    ("name_hash", "u8"),
)

STRUCTS: Final[dict[str, np.dtype[np.void]]] = {
    "addr": ADDR_KEY,
    "prefix": PREFIX,
    "box_port": BOX_PORT,
    "control": CONTROL,
    "state": STATE,
    "section": SECTION,
    "image_header": IMAGE_HEADER,
    "class_entry": CLASS_ENTRY,
    "flow_key": FLOW_KEY,
    "flow": FLOW,
    "hold": HOLD,
    "flow_tags": FLOW_TAGS,
    "exception_key": EXCEPTION_KEY,
    "exception_value": EXCEPTION_VALUE,
    "local_name_key": LOCAL_NAME_KEY,
    "local_name_value": LOCAL_NAME_VALUE,
    "mac_key": MAC_KEY,
    "dynamic_key": DYNAMIC_KEY,
    "dynamic_value": DYNAMIC_VALUE,
    "inbound_key": INBOUND_KEY,
    "device_value": DEVICE_VALUE,
    "class_policy_key": CLASS_POLICY_KEY,
    "essential_port_key": ESSENTIAL_PORT_KEY,
    "resolved_value": RESOLVED_VALUE,
    "mac_value": MAC_VALUE,
    "event": EVENT,
    "counter": COUNTER,
    "decision": DECISION,
}
"""C name of each structure of layout.h -> dtype."""

# map name -> (key dtype or None for an array index, value dtype or None for maps without one)
MAPS: Final[dict[str, tuple[np.dtype[np.void] | None, np.dtype[np.void] | None]]] = {
    "control": (None, CONTROL),
    "state": (None, STATE),
    "images": (None, None),
    "flows": (None, FLOW),
    "flow_tags": (None, FLOW_TAGS),
    "holds": (None, HOLD),
    "openers": (None, None),
    "exceptions": (EXCEPTION_KEY, EXCEPTION_VALUE),
    "local_names": (LOCAL_NAME_KEY, LOCAL_NAME_VALUE),
    "quarantine": (MAC_KEY, UNTIL_VALUE),
    "dynamic": (DYNAMIC_KEY, DYNAMIC_VALUE),
    "inbound_allow": (INBOUND_KEY, UNTIL_VALUE),
    "device_class": (MAC_KEY, DEVICE_VALUE),
    "class_policy": (CLASS_POLICY_KEY, ACTION_VALUE),
    "essential_ports": (ESSENTIAL_PORT_KEY, RANK_VALUE),
    "resolved": (ADDR_KEY, RESOLVED_VALUE),
    "macs": (MAC_KEY, MAC_VALUE),
    "own": (FLOW_KEY, UNTIL_VALUE),
    "events": (None, None),
    "held": (None, None),
    "counters": (None, COUNTER),
    "decision": (None, DECISION),
}


def record(dtype: np.dtype[np.void], **values: Any) -> npt.NDArray[np.void]:
    """One zeroed record of `dtype` (shape ()) with these fields set. bytes are accepted for byte arrays."""
    out = np.zeros((), dtype=dtype)
    for name, value in values.items():
        out[name] = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes | bytearray) else value
    return out


def pack(dtype: np.dtype[np.void], **values: Any) -> bytes:
    """The bytes of one record: a key or a value for the kernel."""
    return record(dtype, **values).tobytes()


def unpack(dtype: np.dtype[np.void], data: bytes) -> npt.NDArray[np.void]:
    """One record (shape ()) read from exactly `dtype.itemsize` bytes (longer per-CPU padding is ignored)."""
    return np.frombuffer(data, dtype=dtype, count=1).reshape(())


def address_bytes(address: str | bytes | ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """16 bytes in wire order. IPv4 (text, 4 bytes or object) becomes v4-mapped. UsageError when it is no address."""
    if isinstance(address, bytes):
        packed = address
    else:
        try:
            packed = ipaddress.ip_address(address).packed
        except ValueError as e:
            raise UsageError(f"{address!r} is not an IP address: write it as 192.0.2.1 or 2001:db8::1") from e
    if len(packed) == 16:
        return packed
    if len(packed) == 4:
        return MAPPED_PREFIX + packed
    raise UsageError(f"an address has 4 or 16 bytes, not {len(packed)}")


def address_text(raw: bytes) -> str:
    """Text of 16 bytes in wire order; v4-mapped is written as IPv4."""
    if raw[:12] == MAPPED_PREFIX:
        return f"{raw[12]}.{raw[13]}.{raw[14]}.{raw[15]}"
    return str(ipaddress.IPv6Address(raw))


def prefix_bits(network: str | ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[bytes, int]:
    """(16-byte network address, prefix length counted on 128 bits) of `network`; host bits are refused."""
    try:
        net = ipaddress.ip_network(network)
    except ValueError as e:
        raise UsageError(f"{network!r} is not an address or a prefix ({e})") from e
    extra = 96 if net.version == 4 else 0
    return address_bytes(net.network_address), net.prefixlen + extra


def mask_bytes(bits: int) -> bytes:
    """The 16-byte mask of a prefix of `bits` bits, 0..128."""
    if not 0 <= bits <= 128:
        raise UsageError(f"a prefix has 0 to 128 bits, not {bits}")
    return (((1 << bits) - 1) << (128 - bits)).to_bytes(16, "big")


def mac_bytes(mac: str | bytes | None) -> bytes:
    """6 bytes of a MAC written `aa:bb:cc:dd:ee:ff` (or with dashes); None is "any device" (six zeroes)."""
    if mac is None:
        return ANY_MAC
    if isinstance(mac, bytes):
        if len(mac) != 6:
            raise UsageError(f"a MAC address has 6 bytes, not {len(mac)}")
        return mac
    parts = mac.replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(p) == 2 for p in parts):
        raise UsageError(f"{mac!r} is not a MAC address: write it as aa:bb:cc:dd:ee:ff")
    try:
        return bytes.fromhex("".join(parts))
    except ValueError as e:
        raise UsageError(f"{mac!r} is not a MAC address: write it as aa:bb:cc:dd:ee:ff") from e


def mac_text(raw: bytes) -> str:
    """`aa:bb:cc:dd:ee:ff`."""
    return raw[:6].hex(":")


def split_meta(meta: int) -> tuple[int, int, int, int]:
    """(epoch, verdict, reason, check) of `flow.meta`."""
    return meta >> 32, (meta >> 24) & 0xFF, (meta >> 16) & 0xFF, meta & 0xFFFF


def join_meta(epoch: int, verdict: int, reason: int, check: int) -> int:
    """`flow.meta` of its four parts."""
    return (epoch & 0xFFFFFFFF) << 32 | (verdict & 0xFF) << 24 | (reason & 0xFF) << 16 | (check & 0xFFFF)


def join_answer(start_ns: int, verdict: int, reason: int) -> int:
    """`hold.answer` to the hold that began at `start_ns`."""
    return (start_ns << 16 | (verdict & 0xFF) << 8 | (reason & 0xFF)) & 0xFFFFFFFFFFFFFFFF


def gen_parts(gen: int) -> tuple[int, int, int]:
    """(counter, geo slot 0/1, base slot 0/1) of `control.gen`."""
    return gen >> 2, (gen >> 1) & 1, gen & 1


def gen_join(counter: int, geo: int, base: int) -> int:
    """`control.gen` of its parts; the 30-bit counter wraps."""
    return (counter & 0x3FFFFFFF) << 2 | (geo & 1) << 1 | (base & 1)


def port6_key(hi: int, lo: int, port: int) -> int:
    """Element of the `ports6` section; `hi` and `lo` are the halves of the address as numbers."""
    mixed = (hi * PORT6_K1 ^ lo * PORT6_K2) & 0xFFFFFFFFFFFFFFFF
    return mixed & ~0xFFFF | port


def name_hash(name: str | bytes, key: int, seed: int) -> int:
    """Hash of a whole DNS name (A-label form, any case, final dot ignored), as layout.h defines it."""
    raw = name.encode("ascii") if isinstance(name, str) else name
    h = seed
    for byte in reversed(raw.lower().rstrip(b".").replace(b".", b"\0")):
        h = ((h ^ byte) * key) & 0xFFFFFFFFFFFFFFFF
    h ^= h >> 32
    return (h * NAME_FINAL) & 0xFFFFFFFFFFFFFFFF


assert REASON_COUNT == 128, "counters map and codes disagree"  # noqa: S101 - both are constants of this tree
