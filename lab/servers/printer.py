"""A network printer: takes jobs on TCP 9100, answers mDNS (RFC 6762) and WS-Discovery probes, over IPv4 and IPv6."""

from __future__ import annotations

import argparse
import select
import socket
import struct
import threading
import uuid
import xml.etree.ElementTree as ElementTree
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from lab.servers.report import say

MDNS4, MDNS6, MDNS_PORT = "224.0.0.251", "ff02::fb", 5353
WSD4, WSD6, WSD_PORT = "239.255.255.250", "ff02::c", 3702
JOB_PORT = 9100
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
SOAP = "http://www.w3.org/2003/05/soap-envelope"


def multicast_socket(link: str, group: str, port: int) -> socket.socket:
    """A socket on `port` that belongs to the group on that link."""
    six = ":" in group
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    index = socket.if_nametoindex(link)
    packed = struct.pack("@i", index)
    if six:
        request = socket.inet_pton(socket.AF_INET6, group) + packed
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::", port))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    else:
        sock.bind(("", port))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + b"\0" * 4 + packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, b"\0" * 8 + packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    return sock


def mdns_answer(data: bytes, name: str, v4: str, v6: str) -> bytes | None:
    """The service pointer and both addresses, when a query asks for _ipp._tcp.local."""
    try:
        query = dns.message.from_wire(data)
    except dns.exception.DNSException:
        return None
    if query.flags & dns.flags.QR or not any(q.name.to_text() == "_ipp._tcp.local." for q in query.question):
        return None
    answer = dns.message.Message(id=0)
    answer.flags = dns.flags.Flag(dns.flags.QR | dns.flags.AA)
    answer.answer.append(dns.rrset.from_text("_ipp._tcp.local.", 120, "IN", "PTR", f"{name}._ipp._tcp.local."))
    answer.additional.append(dns.rrset.from_text(f"{name}.local.", 120, "IN", "A", v4))
    answer.additional.append(dns.rrset.from_text(f"{name}.local.", 120, "IN", "AAAA", v6))
    return answer.to_wire()


def probe_match(data: bytes, address: str) -> bytes | None:
    """ProbeMatches (WS-Discovery 1.0) for a Probe; bounded input, only the message id is used."""
    if len(data) > 8192 or b"<!" in data:
        return None  # no document type: nothing to expand
    try:
        tree = ElementTree.fromstring(data)  # noqa: S314  # bounded, entity-free, in a namespace of the lab
    except ElementTree.ParseError:
        return None
    action, message = tree.find(f".//{{{ADDRESSING}}}Action"), tree.find(f".//{{{ADDRESSING}}}MessageID")
    if action is None or message is None or not (action.text or "").endswith("/Probe"):
        return None
    host = f"[{address}]" if ":" in address else address
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:d="{DISCOVERY}"><s:Header>'
        f"<a:Action>{DISCOVERY}/ProbeMatches</a:Action><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID>"
        f"<a:RelatesTo>{message.text}</a:RelatesTo></s:Header><s:Body><d:ProbeMatches><d:ProbeMatch>"
        f"<d:XAddrs>http://{host}:5357/</d:XAddrs></d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
    ).encode()


def jobs() -> None:
    with socket.create_server(("::", JOB_PORT), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            sock, peer = server.accept()
            total = 0
            with sock:
                sock.settimeout(10)
                try:
                    while data := sock.recv(65536):
                        total += len(data)
                    sock.sendall(b"@PJL USTATUS JOB END\r\n")
                except OSError as error:
                    say("job", error=str(error), bytes=total)
                    continue
            say("job", peer=peer[0].removeprefix("::ffff:"), bytes=total)


def serve(link: str, name: str, v4: str, v6: str) -> None:
    sockets: dict[socket.socket, tuple[str, Any]] = {
        multicast_socket(link, MDNS4, MDNS_PORT): ("mdns", (MDNS4, MDNS_PORT)),
        multicast_socket(link, MDNS6, MDNS_PORT): ("mdns", (MDNS6, MDNS_PORT, 0, socket.if_nametoindex(link))),
        multicast_socket(link, WSD4, WSD_PORT): ("wsd", v4),
        multicast_socket(link, WSD6, WSD_PORT): ("wsd", v6),
    }
    threading.Thread(target=jobs, daemon=True).start()
    say("ready")
    while True:
        for sock in select.select(list(sockets), [], [])[0]:
            data, peer = sock.recvfrom(9000)
            kind, target = sockets[sock]
            if kind == "mdns" and (answer := mdns_answer(data, name, v4, v6)):
                # A querier that is not on port 5353 wants a unicast answer (RFC 6762, 6.7).
                sock.sendto(answer, target if peer[1] == MDNS_PORT else peer)
            if kind == "wsd" and (answer := probe_match(data, target)):
                sock.sendto(answer, peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", default="eth0")
    parser.add_argument("--name", required=True)
    parser.add_argument("--v4", required=True)
    parser.add_argument("--v6", required=True)
    arguments = parser.parse_args()
    serve(arguments.link, arguments.name, arguments.v4, arguments.v6)


if __name__ == "__main__":
    main()
