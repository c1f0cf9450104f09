"""Small captures made with Scapy: `python -m tests.captures.samples` writes them again into tests/data/captures.

They hold what decoders and replay look for: DNS, a ClientHello in two segments, QUIC, DHCP, mDNS, VLAN tags, and
the test indicators that every box blocks. Times are fixed, so that the files are the same on every machine.
"""

from __future__ import annotations

import struct
from pathlib import Path

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from tests.unit.decode import make
from vigie.filter.base.additions import TEST_ADDRESS4, TEST_NAME

PC, ROUTER = "02:00:00:00:00:10", "02:00:00:00:00:01"
PC4, ROUTER4, SERVER4 = "192.168.7.10", "192.168.7.1", "198.51.100.7"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 250_000_000

DATA = Path(__file__).parents[1] / "data" / "captures"


def out(packet: Packet) -> bytes:
    """From the PC to the internet."""
    return bytes(Ether(src=PC, dst=ROUTER) / packet)


def back(packet: Packet) -> bytes:
    """From the internet to the PC."""
    return bytes(Ether(src=ROUTER, dst=PC) / packet)


def question(name: str, number: int, server: str = ROUTER4) -> bytes:
    query = DNS(id=number, rd=1, qd=DNSQR(qname=name))
    return out(IP(src=PC4, dst=server) / UDP(sport=40_000 + number, dport=53) / query)


def answer(name: str, number: int, address: str, server: str = ROUTER4) -> bytes:
    reply = DNS(id=number, qr=1, rd=1, ra=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, ttl=60, rdata=address))
    return back(IP(src=server, dst=PC4) / UDP(sport=53, dport=40_000 + number) / reply)


def connection(server: str, port: int, payloads: list[bytes], *, sport: int = 50_000) -> list[bytes]:
    """A TCP connection of the PC: handshake, what the client sends, and the server's FIN."""
    ip, rip = IP(src=PC4, dst=server), IP(src=server, dst=PC4)
    frames = [
        out(ip / TCP(sport=sport, dport=port, flags="S", seq=1000)),
        back(rip / TCP(sport=port, dport=sport, flags="SA", seq=9000, ack=1001)),
        out(ip / TCP(sport=sport, dport=port, flags="A", seq=1001, ack=9001)),
    ]
    sequence = 1001
    for payload in payloads:
        frames.append(out(ip / TCP(sport=sport, dport=port, flags="PA", seq=sequence, ack=9001) / payload))
        sequence += len(payload)
    frames.append(back(rip / TCP(sport=port, dport=sport, flags="FA", seq=9001, ack=sequence)))
    return frames


def hello(name: str) -> list[bytes]:
    """A ClientHello of two segments, its name in the second."""
    data = make.records(make.hello_message(name.encode(), before=make.LARGE))
    return [data[:900], data[900:]]


def quic(name: str, sport: int = 51_000) -> list[bytes]:
    message = make.hello_message(name.encode(), before=make.LARGE)
    parts = [make.crypto(800, message[800:]), make.crypto(0, message[:800])]
    packets = [make.initial(part.ljust(1180, b"\0"), number=number) for number, part in enumerate(parts)]
    ip = IP(src=PC4, dst=SERVER4)
    return [out(ip / UDP(sport=sport, dport=443) / packet) for packet in packets]


def office() -> list[bytes]:
    """An ordinary moment: nothing to block."""
    dhcp = BOOTP(op=1, chaddr=bytes.fromhex("020000000010"), xid=7)
    options = [("message-type", "request"), ("hostname", b"pc-accueil"), ("vendor_class_id", b"MSFT 5.0"), "end"]
    discovery = DNS(qd=DNSQR(qname="_ipp._tcp.local", qtype="PTR"))
    return [
        bytes(
            Ether(src=PC, dst="ff:ff:ff:ff:ff:ff")
            / IP(src="0.0.0.0", dst="255.255.255.255")
            / UDP(sport=68, dport=67)
            / dhcp
            / DHCP(options=options)
        ),
        bytes(Ether(src=PC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=PC, psrc=PC4, pdst=ROUTER4)),
        bytes(
            Ether(src=PC, dst="01:00:5e:00:00:fb")
            / IP(src=PC4, dst="224.0.0.251")
            / UDP(sport=5353, dport=5353)
            / discovery
        ),
        question("www.example.org", 1),
        answer("www.example.org", 1, SERVER4),
        *connection(SERVER4, 443, hello("www.example.org")),
        *quic("quic.example.org"),
    ]


def toxic() -> list[bytes]:
    """The test indicators by name in DNS, by address, by name in TLS and in QUIC."""
    return [
        question("www.example.org", 2, "198.51.100.53"),
        question(TEST_NAME.upper(), 3, "198.51.100.53"),
        *connection(TEST_ADDRESS4, 8080, [b"GET / HTTP/1.1\r\n\r\n"], sport=50_001),
        *connection(SERVER4, 443, hello(TEST_NAME), sport=50_002),
        *quic(f"sub.{TEST_NAME}", sport=51_001),
    ]


def tagged() -> list[bytes]:
    """Behind two VLAN tags, and over IPv6."""
    query = DNS(id=9, rd=1, qd=DNSQR(qname=TEST_NAME))
    vlan = Ether(src=PC, dst=ROUTER) / Dot1Q(vlan=10) / Dot1Q(vlan=20)
    six = IPv6(src="2001:db8:7::10", dst="2606:4700::1")
    return [
        bytes(vlan / IP(src=PC4, dst="9.9.9.9") / UDP(sport=40_009, dport=53) / query),
        bytes(Ether(src=PC, dst=ROUTER) / six / UDP(sport=40_010, dport=53) / query),
    ]


def pcap(frames: list[bytes], *, order: str = "<", nanoseconds: bool = False, linktype: int = 1) -> bytes:
    """A pcap file; frames are STEP_NS apart."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for number, frame in enumerate(frames):
        seconds, rest = divmod(START_NS + number * STEP_NS, 1_000_000_000)
        fraction = rest if nanoseconds else rest // 1000
        data += struct.pack(order + "4I", seconds, fraction, len(frame), len(frame)) + frame
    return data


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def pcapng(frames: list[bytes], *, order: str = "<", linktype: int = 1, power: int = 9) -> bytes:
    """A pcapng file with one interface of 10**-power seconds resolution."""
    data = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(order, 1, struct.pack(order + "HHIHHB3xI", linktype, 0, 65535, 9, 1, power, 0))
    for number, frame in enumerate(frames):
        when = (START_NS + number * STEP_NS) * 10**power // 1_000_000_000
        head = struct.pack(order + "5I", 0, when >> 32, when & 0xFFFFFFFF, len(frame), len(frame))
        data += block(order, 6, head + frame)
    return data


def cooked(frame: bytes) -> bytes:
    """The frame as Linux's "any" device captures it."""
    return b"\0\0\0\x01\0\x06" + frame[6:12] + b"\0\0" + frame[12:]


def samples() -> dict[str, bytes]:
    """Content by file name."""
    return {
        "office.pcap": pcap(office()),
        "toxic.pcapng": pcapng(toxic()),
        "tagged-be-ns.pcap": pcap(tagged(), order=">", nanoseconds=True),
        "cooked.pcapng": pcapng([cooked(frame) for frame in toxic()], linktype=113, power=6, order=">"),
        "raw.pcap": pcap([frame[14:] for frame in toxic()], linktype=101),
        "loopback.pcap": pcap([b"\x02\0\0\0" + frame[14:] for frame in toxic()], linktype=0),
        "cut.pcap": pcap(office())[:-5],
        "radio.pcap": pcap([bytes(40)], linktype=105),
    }


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for name, data in samples().items():
        (DATA / name).write_bytes(data)


if __name__ == "__main__":
    main()
