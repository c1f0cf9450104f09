"""Entries of the small tables, typed: each knows its key and its value as the kernel keeps them.

Times `until_s` are seconds of CLOCK_MONOTONIC, `FOREVER` for no end. A bad entry raises UsageError when it is packed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from vigie.contract.codes import Action, DeviceClass
from vigie.errors import UsageError
from vigie.filter import abi
from vigie.filter.abi import FOREVER

TCP: Final = 6
UDP: Final = 17


class Entry(Protocol):
    """An entry as the kernel keeps it."""

    def key(self) -> bytes:
        """Bytes of the key."""

    def value(self) -> bytes:
        """Bytes of the value."""


def _u8(what: str, value: int, low: int = 0) -> int:
    if not low <= value <= 255:
        raise UsageError(f"{what} is a number from {low} to 255, not {value}")
    return value


def _port(value: int) -> int:
    if not 0 <= value <= 65535:
        raise UsageError(f"a port is a number from 0 (every port) to 65535, not {value}")
    return value


def _until(value: int) -> int:
    if not 0 < value <= FOREVER:
        raise UsageError(f"an end of {value} s is not between 1 and {FOREVER} (for ever)")
    return value


def _mac_or_none(raw: Any) -> bytes | None:
    mac = raw.tobytes()
    return None if mac == abi.ANY_MAC else mac


@dataclass(frozen=True, slots=True)
class ExceptionEntry:
    """Allow, block or observe a destination. mac None: any device; port, proto 0: all.

    The longest prefix wins, for the device first; one entry per (device, prefix).
    """

    network: str
    action: Action
    mac: bytes | None = None
    port: int = 0
    proto: int = 0
    until_s: int = FOREVER

    def key(self) -> bytes:
        """exception_key"""
        raw, bits = abi.prefix_bits(self.network)
        mac = abi.mac_bytes(self.mac)
        return abi.pack(abi.EXCEPTION_KEY, prefixlen=abi.EXCEPTION_MAC_BITS + bits, mac=mac, addr=raw)

    def value(self) -> bytes:
        """exception_value"""
        if self.action not in (Action.ALLOW, Action.BLOCK, Action.OBSERVE):
            raise UsageError(f"an exception allows, blocks or observes, not {self.action.name.lower()}")
        return abi.pack(abi.EXCEPTION_VALUE, until_s=_until(self.until_s), port=_port(self.port),
                        proto=_u8("a protocol", self.proto), action=self.action)  # fmt: skip

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> ExceptionEntry:
        """Entry of the kernel's bytes."""
        k, v = abi.unpack(abi.EXCEPTION_KEY, key), abi.unpack(abi.EXCEPTION_VALUE, value)
        bits, raw = int(k["prefixlen"]) - abi.EXCEPTION_MAC_BITS, k["addr"].tobytes()
        if raw[:12] == abi.MAPPED_PREFIX and bits >= 96:
            network = str(ipaddress.IPv4Network((raw[12:], bits - 96)))
        else:
            network = str(ipaddress.IPv6Network((raw, bits)))
        return cls(network, Action(int(v["action"])), _mac_or_none(k["mac"]), int(v["port"]), int(v["proto"]),
                   int(v["until_s"]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalName:
    """Exception by name, which covers its subdomains. name_hash: `DataPath.name_hash`, of the base in force."""

    name_hash: int
    action: Action
    mac: bytes | None = None
    until_s: int = FOREVER

    def key(self) -> bytes:
        """local_name_key"""
        return abi.pack(abi.LOCAL_NAME_KEY, hash=self.name_hash, mac=abi.mac_bytes(self.mac))

    def value(self) -> bytes:
        """local_name_value"""
        return abi.pack(abi.LOCAL_NAME_VALUE, until_s=_until(self.until_s), action=self.action)

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> LocalName:
        """Entry of the kernel's bytes."""
        k, v = abi.unpack(abi.LOCAL_NAME_KEY, key), abi.unpack(abi.LOCAL_NAME_VALUE, value)
        return cls(int(k["hash"]), Action(int(v["action"])), _mac_or_none(k["mac"]), int(v["until_s"]))


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A device that may reach nothing."""

    mac: bytes
    until_s: int = FOREVER

    def key(self) -> bytes:
        """mac_key"""
        return abi.pack(abi.MAC_KEY, mac=_device(self.mac))

    def value(self) -> bytes:
        """until_s"""
        return abi.pack(abi.UNTIL_VALUE, until_s=_until(self.until_s))

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> Quarantine:
        """Entry of the kernel's bytes."""
        return cls(abi.unpack(abi.MAC_KEY, key)["mac"].tobytes(), int(abi.unpack(abi.UNTIL_VALUE, value)["until_s"]))


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A block that a detector asked for. mac None: any device. cause: the detector's number, for people."""

    address: str
    mac: bytes | None = None
    until_s: int = FOREVER
    cause: int = 0

    def key(self) -> bytes:
        """dynamic_key"""
        return abi.pack(abi.DYNAMIC_KEY, mac=abi.mac_bytes(self.mac), addr=abi.address_bytes(self.address))

    def value(self) -> bytes:
        """dynamic_value"""
        return abi.pack(abi.DYNAMIC_VALUE, until_s=_until(self.until_s), cause=self.cause)

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> Dynamic:
        """Entry of the kernel's bytes."""
        k, v = abi.unpack(abi.DYNAMIC_KEY, key), abi.unpack(abi.DYNAMIC_VALUE, value)
        return cls(abi.address_text(k["addr"].tobytes()), _mac_or_none(k["mac"]), int(v["until_s"]), int(v["cause"]))


@dataclass(frozen=True, slots=True)
class InboundAllow:
    """A port of a LAN device that the internet may open. Protocols without ports: port 0."""

    mac: bytes
    proto: int
    port: int
    until_s: int = FOREVER

    def key(self) -> bytes:
        """inbound_key"""
        proto = _u8("a protocol", self.proto, 1)
        return abi.pack(abi.INBOUND_KEY, mac=_device(self.mac), proto=proto, port=_port(self.port))

    def value(self) -> bytes:
        """until_s"""
        return abi.pack(abi.UNTIL_VALUE, until_s=_until(self.until_s))

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> InboundAllow:
        """Entry of the kernel's bytes."""
        k = abi.unpack(abi.INBOUND_KEY, key)
        until_s = int(abi.unpack(abi.UNTIL_VALUE, value)["until_s"])
        return cls(k["mac"].tobytes(), int(k["proto"]), int(k["port"]), until_s)


@dataclass(frozen=True, slots=True)
class Device:
    """What a device is. essential_rank 1..9: kept in isolation (telephone, alarm); 0: not."""

    mac: bytes
    device_class: DeviceClass
    essential_rank: int = 0

    def key(self) -> bytes:
        """mac_key"""
        return abi.pack(abi.MAC_KEY, mac=_device(self.mac))

    def value(self) -> bytes:
        """device_value"""
        if not 0 <= self.essential_rank <= 9:
            raise UsageError(f"an essential rank is 0 (none) to 9, not {self.essential_rank}")
        return abi.pack(abi.DEVICE_VALUE, **{"class": self.device_class, "essential_rank": self.essential_rank})

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> Device:
        """Entry of the kernel's bytes."""
        v = abi.unpack(abi.DEVICE_VALUE, value)
        mac = abi.unpack(abi.MAC_KEY, key)["mac"].tobytes()
        return cls(mac, DeviceClass(int(v["class"])), int(v["essential_rank"]))


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """What devices of a class may reach: of one AS, else one country, else the default (both None)."""

    device_class: DeviceClass
    action: Action
    country: str | None = None
    asn: int | None = None

    def key(self) -> bytes:
        """class_policy_key"""
        if self.country is not None and self.asn is not None:
            raise UsageError("a class policy is about a country or an AS, not both")
        kind, value = abi.PK_DEFAULT, 0
        if self.country is not None:
            code = self.country.upper()
            if len(code) != 2 or not (code.isascii() and code.isalpha()):
                raise UsageError(f"{self.country!r} is not a country code of two letters")
            kind, value = abi.PK_COUNTRY, ord(code[0]) << 8 | ord(code[1])
        elif self.asn is not None:
            if not 0 < self.asn < 1 << 32:
                raise UsageError(f"{self.asn} is not an AS number")
            kind, value = abi.PK_AS, self.asn
        return abi.pack(abi.CLASS_POLICY_KEY, **{"class": self.device_class, "kind": kind, "value": value})

    def value(self) -> bytes:
        """enum action"""
        return abi.pack(abi.ACTION_VALUE, action=self.action)

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> ClassPolicy:
        """Entry of the kernel's bytes."""
        k = abi.unpack(abi.CLASS_POLICY_KEY, key)
        action = Action(int(abi.unpack(abi.ACTION_VALUE, value)["action"]))
        kind, number = int(k["kind"]), int(k["value"])
        country = chr(number >> 8 & 0xFF) + chr(number & 0xFF) if kind == abi.PK_COUNTRY else None
        return cls(DeviceClass(int(k["class"])), action, country, number if kind == abi.PK_AS else None)


@dataclass(frozen=True, slots=True)
class EssentialPort:
    """A service kept in isolation by its port, whoever serves it."""

    proto: int
    port: int
    rank: int

    def key(self) -> bytes:
        """essential_port_key"""
        return abi.pack(abi.ESSENTIAL_PORT_KEY, proto=_u8("a protocol", self.proto, 1), port=_port(self.port))

    def value(self) -> bytes:
        """rank"""
        if not 1 <= self.rank <= 9:
            raise UsageError(f"an essential rank is 1 to 9, not {self.rank}")
        return abi.pack(abi.RANK_VALUE, rank=self.rank)

    @classmethod
    def parse(cls, key: bytes, value: bytes) -> EssentialPort:
        """Entry of the kernel's bytes."""
        k = abi.unpack(abi.ESSENTIAL_PORT_KEY, key)
        return cls(int(k["proto"]), int(k["port"]), int(abi.unpack(abi.RANK_VALUE, value)["rank"]))


def _device(mac: bytes) -> bytes:
    raw = abi.mac_bytes(mac)
    if raw == abi.ANY_MAC:
        raise UsageError("a device is needed: 00:00:00:00:00:00 stands for any")
    return raw
