"""HTTP/3 on UDP 443 of the addresses named; says each datagram, and each finished handshake with its server name."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, QuicEvent

from lab.servers.report import say


class Http3(QuicConnectionProtocol):
    """Answers every request with its authority."""

    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            say("quic", alpn=event.alpn_protocol, sni=getattr(self._quic.tls, "client_server_name", None))
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for received in self._http.handle_event(event):
            if isinstance(received, HeadersReceived):
                authority = dict(received.headers).get(b":authority", b"")
                self._http.send_headers(received.stream_id, [(b":status", b"200"), (b"server", b"vigie-lab")])
                self._http.send_data(received.stream_id, b"Bienvenue sur " + authority, end_stream=True)
                self.transmit()


class CountingServer(QuicServer):
    """Says how many bytes came in, per address, before anything is decided about them."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(**options)
        self._address = address

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        say("datagram", to=self._address, bytes=len(data))
        super().datagram_received(data, addr)


async def run(addresses: list[str], chain: Path, key: Path) -> None:
    configuration = QuicConfiguration(alpn_protocols=list(H3_ALPN), is_client=False)
    configuration.load_cert_chain(chain, key)
    loop = asyncio.get_running_loop()
    for address in addresses:

        def make(address: str = address) -> CountingServer:
            return CountingServer(address, configuration=configuration, create_protocol=Http3)

        await loop.create_datagram_endpoint(make, local_addr=(address, 443))
    say("ready")
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chain", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--address", action="append", required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.address, arguments.chain, arguments.key))


if __name__ == "__main__":
    main()
