"""Looking for a printer (mDNS, WS-Discovery) and printing on TCP 9100; IPv4 and IPv6, from either side of the box."""

from __future__ import annotations

import select
import socket
import struct
import time
import uuid

import dns.message

from lab.netns import Namespace
from lab.servers.printer import ADDRESSING, DISCOVERY, JOB_PORT, MDNS4, MDNS6, MDNS_PORT, SOAP, WSD4, WSD6, WSD_PORT


def _query_socket(namespace: Namespace, six: bool, link: str) -> socket.socket:
    index = namespace.ifindex(link)
    sock = namespace.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, b"\0" * 8 + struct.pack("@i", index))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    return sock


def _ask(
    namespace: Namespace, six: bool, group: tuple[str, int], query: bytes, wanted: str, what: str, link: str
) -> str:
    """Address of the machine whose answer contains `wanted`; asks twice, 1 s each."""
    with _query_socket(namespace, six, link) as sock:
        target = (*group, 0, namespace.ifindex(link)) if six else group
        for _ in range(2):
            sock.sendto(query, target)
            end = time.monotonic() + 1.0
            while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
                data, peer = sock.recvfrom(9000)
                if wanted.encode() in data:
                    return str(peer[0]).split("%", maxsplit=1)[0]
    raise AssertionError(f"[{namespace.label}] {what} to {group[0]}: no answer with {wanted!r} in 2 s")


def find_by_mdns(namespace: Namespace, printer: str, six: bool, link: str = "eth0") -> str:
    query = dns.message.make_query("_ipp._tcp.local.", "PTR", flags=0, id=0).to_wire()
    return _ask(namespace, six, (MDNS6 if six else MDNS4, MDNS_PORT), query, printer, "mDNS query", link)


def find_by_wsd(namespace: Namespace, address: str, six: bool, link: str = "eth0") -> str:
    """The printer whose transport address holds `address`."""
    probe = (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:d="{DISCOVERY}"><s:Header>'
        f"<a:Action>{DISCOVERY}/Probe</a:Action><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID></s:Header>"
        f"<s:Body><d:Probe/></s:Body></s:Envelope>"
    ).encode()
    return _ask(namespace, six, (WSD6 if six else WSD4, WSD_PORT), probe, address, "WS-Discovery probe", link)


def print_job(namespace: Namespace, address: str, size: int = 200_000, timeout: float = 5.0) -> str:
    """Send a job and read the printer's status; returns it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with namespace.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect((address, JOB_PORT))
            sock.sendall(bytes(size))
            sock.shutdown(socket.SHUT_WR)
            status = sock.recv(4096).decode()
    except OSError as error:
        raise AssertionError(f"[{namespace.label}] printing on {address} port {JOB_PORT}: {error}") from error
    if "JOB END" not in status:
        raise AssertionError(f"[{namespace.label}] printing on {address}: status {status!r}")
    return f"[{namespace.label}] job of {size} bytes printed on {address}"
