"""The internet's DNS: answers the scenario's names with authority, everything else with NXDOMAIN, over UDP and TCP."""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from lab.servers.report import say

TTL = 60


def respond(data: bytes, zone: dict[str, list[str]], over: str) -> bytes | None:
    try:
        query = dns.message.from_wire(data)
    except dns.exception.DNSException:
        return None
    question = query.question[0]
    name = question.name.to_text().rstrip(".").lower()
    say("query", name=name, type=dns.rdatatype.to_text(question.rdtype), over=over)
    answer = dns.message.make_response(query, recursion_available=True)
    addresses = zone.get(name)
    if addresses is None:
        answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()
    family = {dns.rdatatype.A: False, dns.rdatatype.AAAA: True}.get(question.rdtype)
    fitting = [address for address in addresses if (":" in address) is family]
    if fitting:
        answer.answer.append(dns.rrset.from_text(question.name, TTL, "IN", question.rdtype, *fitting))
    return answer.to_wire()


def serve_udp(address: str, zone: dict[str, list[str]]) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 53))
        say("ready", udp=address)
        while True:
            data, peer = sock.recvfrom(4096)
            answer = respond(data, zone, "udp")
            if answer is not None:
                sock.sendto(answer, peer)


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise OSError("closed")
        data += chunk
    return data


def serve_stream(sock: socket.socket, zone: dict[str, list[str]]) -> None:
    with sock:
        sock.settimeout(10)
        try:
            while True:
                (size,) = struct.unpack("!H", _read(sock, 2))
                answer = respond(_read(sock, size), zone, "tcp")
                if answer is None:
                    return
                sock.sendall(struct.pack("!H", len(answer)) + answer)
        except OSError:
            return


def serve_tcp(zone: dict[str, list[str]]) -> None:
    with socket.create_server(("::", 53), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        say("ready", tcp=53)
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve_stream, args=(sock, zone), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zone", type=Path, required=True, help="JSON: name -> addresses")
    parser.add_argument("--address", action="append", required=True)
    arguments = parser.parse_args()
    zone: dict[str, list[str]] = json.loads(arguments.zone.read_text())
    for address in arguments.address:
        threading.Thread(target=serve_udp, args=(address, zone), daemon=True).start()
    serve_tcp(zone)


if __name__ == "__main__":
    main()
