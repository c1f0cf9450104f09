"""DNS, DHCP, SSDP and WS-Discovery messages."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from vigie.errors import DecodeError
from vigie.filter.decode import dhcp, discovery
from vigie.filter.decode import dns as codec


def test_dns_query() -> None:
    message = codec.decode(dns.message.make_query("WWW.Example.Org.", "AAAA", use_edns=0, payload=1232).to_wire())
    assert (message.name, message.qtype, message.response, message.udp_size) == ("www.example.org", "AAAA", False, 1232)
    assert message.recursion_desired
    assert not message.answers
    assert not message.partial


def _answer() -> dns.message.Message:
    query = dns.message.make_query("www.example.org", "A", use_edns=0)
    answer = dns.message.make_response(query)
    answer.answer = [
        dns.rrset.from_text("www.example.org.", 60, "IN", "CNAME", "CDN.Example.net."),
        dns.rrset.from_text("cdn.example.net.", 30, "IN", "A", "192.0.2.1", "192.0.2.2"),
        dns.rrset.from_text("cdn.example.net.", 20, "IN", "AAAA", "2001:db8::1"),
    ]
    return answer


def test_dns_answer() -> None:
    message = codec.decode(_answer().to_wire())
    assert message.response
    assert message.answers[0] == codec.Record("www.example.org", "CNAME", 60, "cdn.example.net")
    assert sorted(message.addresses) == [("192.0.2.1", 30), ("192.0.2.2", 30), ("2001:db8::1", 20)]


def test_dns_extended_error() -> None:
    answer = dns.message.make_response(dns.message.make_query("toxic.example", "A", use_edns=0))
    answer.set_rcode(dns.rcode.NXDOMAIN)
    answer.use_edns(0, options=[dns.edns.EDEOption(15, "Vigie")])
    message = codec.decode(answer.to_wire())
    assert (message.rcode, message.extended) == (3, ((15, "Vigie"),))


def test_dns_cut_message_keeps_what_was_whole() -> None:
    wire = _answer().to_wire()
    for size in range(len(wire)):
        try:
            message = codec.decode(wire[:size])
        except codec.DnsError:
            assert size < 12 + len("www.example.org") + 2 + 4
            continue
        assert message.partial
        assert message.name == "www.example.org"
    assert codec.decode(wire[:70]).answers == (codec.Record("www.example.org", "CNAME", 60, "cdn.example.net"),)


def test_dns_over_tcp() -> None:
    wire = _answer().to_wire()
    assert codec.decode_tcp(len(wire).to_bytes(2, "big") + wire + b"next") == codec.decode(wire)
    with pytest.raises(codec.DnsError, match="length"):
        codec.decode_tcp(b"\0")


def test_mdns_announcement() -> None:
    message = dns.message.Message(id=0)
    message.flags = dns.flags.QR | dns.flags.AA
    message.answer = [
        dns.rrset.from_text("_ipp._tcp.local.", 4500, "IN", "PTR", "Imprimante\\032Accueil._ipp._tcp.local."),
        dns.rrset.from_text("Imprimante\\032Accueil._ipp._tcp.local.", 120, "IN", "SRV", "0 0 631 HP1234.local."),
        dns.rrset.from_text("hp1234.local.", 120, "IN", "A", "192.168.1.9"),
    ]
    decoded = codec.decode(message.to_wire())
    assert (decoded.name, decoded.question_count) == ("", 0)
    assert decoded.answers[0].value == "imprimante\\032accueil._ipp._tcp.local"
    assert decoded.answers[1].value == "hp1234.local"


@pytest.mark.parametrize("data", [b"", bytes(11), bytes(4) + b"\0\x01" + bytes(6), bytes(70_000)])
def test_dns_refusals(data: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode(data)


def test_dns_pointer_loop() -> None:
    with pytest.raises(codec.DnsError):
        codec.decode(bytes(4) + b"\0\x01" + bytes(6) + b"\xc0\x0c\0\x01\0\x01")


def test_dhcp_request() -> None:
    options = [
        ("message-type", "request"),
        ("hostname", b"pc-accueil"),
        ("vendor_class_id", b"MSFT 5.0"),
        ("param_req_list", [1, 3, 6, 15]),
        ("requested_addr", "192.168.1.20"),
        ("client_id", b"\x01\x02\0\0\0\0\x01"),
        (81, b"\0\0\0pc-accueil.mairie.fr"),
        "end",
    ]
    data = bytes(BOOTP(op=1, xid=0x1234, chaddr=bytes.fromhex("020000000001")) / DHCP(options=options))
    message = dhcp.decode(data)
    assert message.request
    assert message.type == dhcp.MessageType.REQUEST
    assert (message.xid, message.mac.hex()) == (0x1234, "020000000001")
    assert (message.hostname, message.vendor_class, message.parameters) == ("pc-accueil", "MSFT 5.0", (1, 3, 6, 15))
    assert (message.requested, message.fqdn) == ("192.168.1.20", "pc-accueil.mairie.fr")
    assert message.client_id == b"\x01\x02\0\0\0\0\x01"
    assert not message.partial


def test_dhcp_offer() -> None:
    options = [
        ("message-type", "offer"),
        ("server_id", "192.168.1.1"),
        ("router", "192.168.1.1"),
        ("name_server", "192.168.1.1", "192.0.2.53"),
        ("subnet_mask", "255.255.255.0"),
        ("lease_time", 3600),
    ]
    message = dhcp.decode(bytes(BOOTP(op=2, yiaddr="192.168.1.20") / DHCP(options=options)))
    assert (message.server, message.routers, message.lease_s) == ("192.168.1.1", ("192.168.1.1",), 3600)
    assert (message.resolvers, message.mask, message.yours) == (
        ("192.168.1.1", "192.0.2.53"),
        "255.255.255.0",
        "192.168.1.20",
    )


def test_dhcp_option_in_pieces_overload_and_odd_text() -> None:
    base = bytearray(bytes(BOOTP(op=1)))[:236]
    base[108 : 108 + 6] = bytes((12, 3)) + b"DEF" + b"\xff"
    head = bytes(base) + b"\x63\x82\x53\x63"
    message = dhcp.decode(head + b"\x0c\x03abc\x34\x01\x01\x3c\x03\x1b\xff\x00\xff")
    assert message.hostname == "abcDEF"
    assert message.vendor_class == "??"
    assert dhcp.decode(head + b"\x51\x07\x04\0\0\x02pc\0\xff").fqdn == "pc"
    assert dhcp.decode(head + b"\x0c\x09abc").partial


@pytest.mark.parametrize("data", [b"", bytes(239), bytes(240), b"\x03" + bytes(235) + b"\x63\x82\x53\x63", bytes(5000)])
def test_dhcp_refusals(data: bytes) -> None:
    with pytest.raises(DecodeError):
        dhcp.decode(data)


def test_dhcp6() -> None:
    options = b"\0\x01\0\x04duid" + b"\0\x27\0\x0f\x01\x02pc\x06mairie\x02fr\0" + b"\0\x10\0\x0a\0\0\x01\x37\0\x04MSFT"
    message = dhcp.decode6(b"\x03\x01\x02\x03" + options)
    assert (message.type, message.xid, message.duid, message.partial) == (3, 0x10203, b"duid", False)
    assert (message.fqdn, message.vendor_class) == ("pc.mairie.fr", "MSFT")
    assert dhcp.decode6(b"\x03\x01\x02\x03" + options[:-1]).partial
    with pytest.raises(dhcp.DhcpError):
        dhcp.decode6(b"\x0c" + bytes(40))


def test_ssdp() -> None:
    text = (
        "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNT: upnp:rootdevice\r\nnts:ssdp:alive\r\n"
        "Server: Linux/3.4 UPnP/1.0 Cam/1.0\r\nUSN: uuid:1::upnp:rootdevice\r\nLocation: http://192.168.1.9:80/d.xml\r\n\r\n"
    )
    message = discovery.decode_ssdp(text.encode())
    assert message == discovery.Ssdp(
        "NOTIFY",
        "upnp:rootdevice",
        "uuid:1::upnp:rootdevice",
        "Linux/3.4 UPnP/1.0 Cam/1.0",
        "http://192.168.1.9:80/d.xml",
        "ssdp:alive",
    )
    assert discovery.decode_ssdp(b"HTTP/1.1 200 OK\nST: x\n").target == "x"
    with pytest.raises(DecodeError):
        discovery.decode_ssdp(b"POST / HTTP/1.1\r\n")


WSD = """<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="urn:a" xmlns:d="urn:d"><s:Header>
<a:To>urn:x</a:To><a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Hello</a:Action>
<a:ReplyTo><a:Address>urn:not-this</a:Address></a:ReplyTo></s:Header><s:Body><d:Hello>
<a:EndpointReference><a:Address>urn:uuid:42</a:Address></a:EndpointReference><d:Types>wsdp:Device pub:Computer</d:Types>
<d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Cam</d:Scopes>
<d:XAddrs>http://192.168.1.9/onvif</d:XAddrs></d:Hello></s:Body></s:Envelope>"""


def test_ws_discovery() -> None:
    message = discovery.decode_wsd(WSD.encode())
    assert (message.action, message.endpoint, message.types) == ("Hello", "urn:uuid:42", ("Device", "Computer"))
    assert message.scopes[1].endswith("/name/Cam")
    assert message.addresses == ("http://192.168.1.9/onvif",)


LAUGHS = '<!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (WSD.replace("<s:Envelope", LAUGHS + "<s:Envelope").replace("urn:x", "&b;"), "refused"),
        ("<a>" * 17, "nested"),
        ("<a>", "no element|unclosed"),
        ("<a/>", "action"),
        ("not xml", "syntax"),
        ("<a>&b;</a>", "entity"),
        ("<a>" + "x" * 9000 + "</a>", "more than"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "encoding"),
    ],
)
def test_ws_discovery_refusals(text: str, why: str) -> None:
    with pytest.raises(discovery.DiscoveryError, match=why):
        discovery.decode_wsd(text.encode())
