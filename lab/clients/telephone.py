"""The office telephone: registers, calls, is called; voice both ways (RTP over UDP) through the ISP box's NAT."""

from __future__ import annotations

import re
import select
import socket
import time
from dataclasses import dataclass

from lab.netns import Namespace

SIP_PORT, RTP_LOCAL = 5060, 17000
FRAME = bytes([0x80, 0x00]) + bytes(10) + b"\xff" * 160


@dataclass(frozen=True, slots=True)
class Call:
    voice_sent: int
    voice_heard: int
    rang: bool


def _request(method: str, server: str, own: str, *more: str) -> bytes:
    head = [
        f"{method} sip:{server} SIP/2.0",
        f"Via: SIP/2.0/UDP {own}:{SIP_PORT};branch=z9hG4bK-vigie;rport",
        "From: <sip:mairie>;tag=1",
        f"To: <sip:{server}>",
        "Call-ID: vigie-lab",
        f"CSeq: 1 {method}",
        *more,
        "Content-Length: 0",
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


def _read(sock: socket.socket, prefix: bytes, seconds: float, what: str) -> bytes:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            data = sock.recv(4096)
            if data.startswith(prefix):
                return data
    raise AssertionError(f"telephone: no {what} within {seconds} s")


def call(namespace: Namespace, server: str, own: str, seconds: float = 1.0) -> Call:
    """Register, be called, call, talk for `seconds`; AssertionError names the step that fails."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sip = namespace.socket(family, socket.SOCK_DGRAM)
    rtp = namespace.socket(family, socket.SOCK_DGRAM)
    with sip, rtp:
        sip.bind((own, SIP_PORT))
        rtp.bind((own, RTP_LOCAL))
        rtp.setblocking(False)
        sip.sendto(_request("REGISTER", server, own, "X-Lab-Ring: yes"), (server, SIP_PORT))
        _read(sip, b"SIP/2.0 200", 2.0, "answer to REGISTER")
        _read(sip, b"INVITE", 2.0, "incoming call")
        sip.sendto(_request("INVITE", server, own), (server, SIP_PORT))
        _read(sip, b"SIP/2.0 180", 2.0, "ringing")
        answer = _read(sip, b"SIP/2.0 200", 2.0, "answer to INVITE").decode()
        port = re.search(r"m=audio (\d+)", answer)
        if port is None:
            raise AssertionError(f"telephone: no voice port in\n{answer}")
        sent = heard = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rtp.sendto(FRAME, (server, int(port[1])))
            sent += 1
            time.sleep(0.02)
            while select.select([rtp], [], [], 0)[0]:
                heard += len(rtp.recv(2048)) == len(FRAME)
        sip.sendto(_request("BYE", server, own), (server, SIP_PORT))
    return Call(sent, heard, True)
