"""Entries of the small tables come back from the kernel's bytes as they went in; impossible ones are refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Action, DeviceClass
from vigie.errors import UsageError
from vigie.filter import abi, entries

DEVICE = st.binary(min_size=6, max_size=6).filter(any)
MAC = st.none() | DEVICE
UNTIL = st.integers(1, abi.FOREVER)
PORT = st.integers(0, 65535)
ACTION = st.sampled_from([Action.ALLOW, Action.BLOCK, Action.OBSERVE])
NETWORK = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
)


def network(pair: tuple[object, int]) -> str:
    return str(ipaddress.ip_network(f"{pair[0]}/{pair[1]}", strict=False))


ENTRIES = st.one_of(
    st.builds(entries.ExceptionEntry, NETWORK.map(network), ACTION, MAC, PORT, st.integers(0, 255), UNTIL),
    st.builds(entries.LocalName, st.integers(0, 2**64 - 1), ACTION, MAC, UNTIL),
    st.builds(entries.Quarantine, DEVICE, UNTIL),
    st.builds(entries.Dynamic, st.ip_addresses().map(str), MAC, UNTIL, st.integers(0, 2**32 - 1)),
    st.builds(entries.InboundAllow, DEVICE, st.integers(1, 255), PORT, UNTIL),
    st.builds(entries.Device, DEVICE, st.sampled_from(DeviceClass), st.integers(0, 9)),
    st.builds(entries.ClassPolicy, st.sampled_from(DeviceClass), ACTION),
    st.builds(entries.ClassPolicy, st.sampled_from(DeviceClass), ACTION, country=st.sampled_from(["FR", "DE"])),
    st.builds(entries.ClassPolicy, st.sampled_from(DeviceClass), ACTION, asn=st.integers(1, 2**32 - 1)),
    st.builds(entries.EssentialPort, st.integers(1, 255), PORT, st.integers(1, 9)),
)


@given(ENTRIES)
def test_round_trip(entry: entries.Entry) -> None:
    back = type(entry).parse(entry.key(), entry.value())  # type: ignore[attr-defined]
    assert (back.key(), back.value()) == (entry.key(), entry.value())
    mapped = any("ffff:" in str(getattr(entry, name, "")).lower() for name in ("network", "address"))
    if not mapped:  # a v4-mapped IPv6 address is IPv4 to the data path
        assert back == entry


def test_exception_prefix_counts_device_and_padding() -> None:
    key = abi.unpack(abi.EXCEPTION_KEY, entries.ExceptionEntry("192.0.2.0/24", Action.ALLOW).key())
    assert int(key["prefixlen"]) == 96 + 96 + 24
    key = abi.unpack(abi.EXCEPTION_KEY, entries.ExceptionEntry("2001:db8::/32", Action.ALLOW).key())
    assert int(key["prefixlen"]) == 96 + 32


def test_country_is_two_letters_first_high() -> None:
    entry = entries.ClassPolicy(DeviceClass.CAMERA, Action.ALLOW, country="fr")
    key = abi.unpack(abi.CLASS_POLICY_KEY, entry.key())
    assert int(key["value"]) == ord("F") << 8 | ord("R")


@pytest.mark.parametrize(
    "bad",
    [
        entries.ExceptionEntry("192.0.2.1/24", Action.ALLOW),
        entries.ExceptionEntry("example.org", Action.ALLOW),
        entries.ExceptionEntry("192.0.2.1", Action.NONE),
        entries.ExceptionEntry("192.0.2.1", Action.ALLOW, port=70000),
        entries.ExceptionEntry("192.0.2.1", Action.ALLOW, until_s=0),
        entries.Quarantine(bytes(6)),
        entries.Quarantine(bytes(5)),
        entries.Dynamic("300.1.1.1"),
        entries.InboundAllow(b"\x02" * 6, 0, 80),
        entries.Device(b"\x02" * 6, DeviceClass.PHONE, 10),
        entries.ClassPolicy(DeviceClass.CAMERA, Action.BLOCK, country="FRA"),
        entries.ClassPolicy(DeviceClass.CAMERA, Action.BLOCK, country="FR", asn=3215),
        entries.ClassPolicy(DeviceClass.CAMERA, Action.BLOCK, asn=0),
        entries.EssentialPort(17, 53, 0),
    ],
)
def test_impossible_entries_are_refused(bad: entries.Entry) -> None:
    with pytest.raises(UsageError):
        assert (bad.key(), bad.value()) is None
