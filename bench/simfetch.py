"""What a simulated box does after an announcement: one TLS connection, metadata, descriptor, delta."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """Paths in the order in which the TUF client asks for them; `digest` of the last one (hex SHA-256)."""

    paths: tuple[str, ...]
    digest: str


async def fetch(wanted: Wanted, host: str, address: str, port: int, context: ssl.SSLContext) -> int:
    """Bytes of body. OSError when an answer is not 200, ValueError when the content is not what was announced."""
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host, limit=1 << 20)
    total, body = 0, b""
    try:
        for path in wanted.paths:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if not head.startswith("HTTP/1.1 200 "):
                raise OSError(f"{path}: {head.splitlines()[0]}")
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields["Content-Length"]))
            total += len(body)
    finally:
        writer.close()
    if hashlib.sha256(body).hexdigest() != wanted.digest:
        raise ValueError(f"{wanted.paths[-1]}: not the file that was announced")
    return total
