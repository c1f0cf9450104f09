"""DNS, DHCP and discovery messages: any bytes give a message or a DecodeError, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import dns.message
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from vigie.errors import DecodeError
from vigie.filter.decode import dhcp, discovery
from vigie.filter.decode import dns as codec


def _dns_seed() -> bytes:
    answer = dns.message.make_response(dns.message.make_query("www.example.org", "A", use_edns=0))
    answer.answer = [
        dns.rrset.from_text("www.example.org.", 60, "IN", "CNAME", "cdn.example.net."),
        dns.rrset.from_text("cdn.example.net.", 30, "IN", "A", "192.0.2.1"),
        dns.rrset.from_text("cdn.example.net.", 30, "IN", "TXT", '"some text"'),
        dns.rrset.from_text("cdn.example.net.", 30, "IN", "HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.1"),
        dns.rrset.from_text("_x._tcp.example.net.", 30, "IN", "SRV", "0 0 80 host.example.net."),
    ]
    return answer.to_wire()


DHCP4 = bytes(
    BOOTP(op=1) / DHCP(options=[("message-type", "discover"), ("hostname", b"pc"), (81, b"\x04\0\0\x02pc\0"), "end"])
)
DHCP6 = b"\x01\x01\x02\x03" + b"\0\x01\0\x04duid" + b"\0\x27\0\x05\x01\x02pc\0" + b"\0\x10\0\x0a\0\0\x01\x37\0\x04MSFT"
SSDP = b"NOTIFY * HTTP/1.1\r\nNT: upnp:rootdevice\r\nSERVER: x\r\nUSN: uuid:1\r\n\r\n"
WSD = (
    b'<e xmlns:a="urn:a"><a:Action>urn:x/Hello</a:Action><a:EndpointReference><a:Address>urn:1</a:Address>'
    b"</a:EndpointReference><a:Types>a:Device</a:Types></e>"
)


@pytest.mark.parametrize(
    ("decode", "seed"),
    [
        (codec.decode, _dns_seed()),
        (codec.decode_tcp, b"\1\0" + _dns_seed()),
        (dhcp.decode, DHCP4),
        (dhcp.decode6, DHCP6),
        (discovery.decode_ssdp, SSDP),
        (discovery.decode_wsd, WSD),
    ],
    ids=["dns", "dns-tcp", "dhcp", "dhcp6", "ssdp", "wsd"],
)
@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_bytes(decode: Callable[[bytes], object], seed: bytes, data: st.DataObject) -> None:
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 10))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for candidate in (cut, data.draw(st.binary(max_size=300)), seed + data.draw(st.binary(max_size=20))):
        with contextlib.suppress(DecodeError):
            decode(candidate)
