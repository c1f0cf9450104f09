"""The vectorised IPv4 reading agrees with `ipaddress`, and leaves alone what it does not understand."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from vigie.filter.base.readers import ipv4


def parse(*tokens: str) -> ipv4.Parsed:
    buffer = np.frombuffer("\n".join(tokens).encode(), np.uint8)
    lengths = np.array([len(token) for token in tokens], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]]).astype(np.int64)
    return ipv4.parse(buffer, starts, lengths)


@pytest.mark.parametrize(
    "token",
    ["0.0.0.0", "255.255.255.255", "192.0.2.1", "10.0.0.0/8", "192.0.2.0/24", "224.0.0.0/3", "1.2.3.4/32", "0.0.0.0/0"],
)
def test_reads_addresses_and_prefixes(token: str) -> None:
    net = ipaddress.ip_network(token)
    found = parse(token)
    assert found.ok[0]
    assert (found.first[0], found.last[0]) == (int(net.network_address), int(net.broadcast_address))
    assert found.port[0] == 0
    assert not found.host_bits[0]


def test_reads_ports() -> None:
    found = parse("192.0.2.1:443", "192.0.2.1:65535", "192.0.2.1:1")
    assert found.ok.all()
    assert found.port.tolist() == [443, 65535, 1]
    assert (found.first == found.last).all()


def test_host_bits_are_told_and_the_network_is_used() -> None:
    found = parse("192.0.2.77/24")
    assert found.ok[0]
    assert found.host_bits[0]
    assert found.first[0] == int(ipaddress.IPv4Address("192.0.2.0"))
    assert found.last[0] == int(ipaddress.IPv4Address("192.0.2.255"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "1..218.28",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.04",
        "1.2.3.00",
        "256.1.1.1",
        "1.1.1.256",
        "1.2.3.4/33",
        "1.2.3.4/",
        "1.2.3.4/024",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:99999",
        "1.2.3.4:",
        "1.2.3.4/24:80",
        "1.2.3.4:80/24",
        ".1.2.3.4",
        "1.2.3.4.",
        " 1.2.3.4",
        "1.2.3.4 ",
        "-1.2.3.4",
        "1.2.3.4-5",
        "a.b.c.d",
        "1.2.3.4294967297",
        "99999999999.1.1.1",
        "1.2.3.4/4294967304",
        "1.2.3.4:4294967376",
        "1/2.3.4.5",
        "192.0.2.1\x00",
    ],
)
def test_leaves_everything_else(token: str) -> None:
    found = parse("192.0.2.1", token, "192.0.2.2")
    assert found.ok.tolist() == [True, False, True], token


def test_many_lines_cross_chunks() -> None:
    tokens = [str(ipaddress.IPv4Address(i * 65537)) for i in range(65536)]
    found = parse(*tokens)
    assert found.ok.all()
    assert (found.first == np.arange(65536, dtype=np.uint32) * np.uint32(65537)).all()


def test_nothing() -> None:
    found = ipv4.parse(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(found.ok) == 0
