"""A telephone operator: answers REGISTER, rings, takes calls (INVITE), sends voice (RTP) back to where it came from.

Only the few fields of RFC 3261 that a NAT and a filter can disturb; signalling and voice over UDP.
"""

from __future__ import annotations

import argparse
import select
import socket
import time
from typing import Any

from lab.servers.report import say

RTP_PORT = 16000
FRAME = bytes([0x80, 0x00]) + bytes(10) + b"\xff" * 160


def reply(request: str, status: str, sdp: str = "") -> bytes:
    lines = request.split("\r\n")
    kept = [line for line in lines if line.split(":", 1)[0].lower() in {"via", "from", "to", "call-id", "cseq"}]
    head = [f"SIP/2.0 {status}", *kept, "Contact: <sip:operateur>"]
    if sdp:
        head.append("Content-Type: application/sdp")
    return ("\r\n".join([*head, f"Content-Length: {len(sdp)}"]) + "\r\n\r\n" + sdp).encode()


def sdp(address: str) -> str:
    family = "IP6" if ":" in address else "IP4"
    return (f"v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n"
            f"m=audio {RTP_PORT} RTP/AVP 0\r\n")  # fmt: skip


def serve(addresses: list[str]) -> None:
    signalling: dict[socket.socket, str] = {}
    voice: dict[socket.socket, tuple[Any, float]] = {}
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sip = socket.socket(family, socket.SOCK_DGRAM)
        sip.bind((address, 5060))
        signalling[sip] = address
        rtp = socket.socket(family, socket.SOCK_DGRAM)
        rtp.bind((address, RTP_PORT))
        voice[rtp] = (None, 0.0)
    say("ready")
    while True:
        ready, _, _ = select.select([*signalling, *voice], [], [], 0.02)
        now = time.monotonic()
        for sock in ready:
            data, peer = sock.recvfrom(4096)
            if sock in voice:
                voice[sock] = (peer, now)
                continue
            request = data.decode("latin-1")
            method = request.split(" ", 1)[0]
            if method in {"REGISTER", "OPTIONS", "BYE"}:
                sock.sendto(reply(request, "200 OK"), peer)
                say("sip", method=method)
            if method == "REGISTER" and "X-Lab-Ring:" in request:
                # An incoming call a little later, through the hole that the registration keeps open.
                body = sdp(signalling[sock])
                ring = f"INVITE sip:mairie SIP/2.0\r\nCall-ID: entrant\r\nContent-Length: {len(body)}\r\n\r\n"
                sock.sendto((ring + body).encode(), peer)
            if method == "INVITE":
                sock.sendto(reply(request, "180 Ringing"), peer)
                sock.sendto(reply(request, "200 OK", sdp(signalling[sock])), peer)
                say("sip", method=method)
        for sock, (peer, last) in voice.items():
            if peer is not None and now - last < 1.0:
                sock.sendto(FRAME, peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", action="append", required=True)
    serve(parser.parse_args().address)


if __name__ == "__main__":
    main()
