"""An HTTP/3 request straight to an address, under a server name of choice. Prints one JSON line: outcome, ms, detail.

`--big` makes the ClientHello longer than one datagram, as a post-quantum key share does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from lab.clients.tls import BIG_ALPN, Attempt
from lab.netns import Namespace


class Client(QuicConnectionProtocol):
    """One GET."""

    _http: H3Connection | None = None

    def get(self, authority: str) -> asyncio.Future[bytes]:
        self._http = H3Connection(self._quic)
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(
            stream,
            [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", authority.encode()), (b":path", b"/")],
            end_stream=True,
        )
        self.transmit()
        return self._answer

    def quic_event_received(self, event: QuicEvent) -> None:
        if self._http is None:
            return
        for received in self._http.handle_event(event):
            if isinstance(received, DataReceived) and not self._answer.done():
                self._answer.set_result(received.data)


async def request(address: str, name: str, big: bool, seconds: float) -> dict[str, object]:
    alpn = list(H3_ALPN) + (BIG_ALPN[1:] if big else [])
    configuration = QuicConfiguration(alpn_protocols=alpn, is_client=True, server_name=name, verify_mode=ssl.CERT_NONE)
    start = time.monotonic()
    outcome, detail = "reached", ""
    try:
        async with asyncio.timeout(seconds):
            async with connect(address, 443, configuration=configuration, create_protocol=Client) as client:
                detail = (await client.get(name)).decode()  # type: ignore[attr-defined]  # aioquic ships no types
    except TimeoutError:
        outcome, detail = "silence", "no answer"
    except (ConnectionError, OSError) as error:
        outcome, detail = "refused", str(error)
    return {"outcome": outcome, "ms": (time.monotonic() - start) * 1000, "detail": detail}


def fetch(namespace: Namespace, address: str, name: str, *, big: bool = False, timeout: float = 3.0) -> Attempt:
    """Run this program inside `namespace`."""
    argv = ["--address", address, "--name", name, "--timeout", str(timeout), *(["--big"] if big else [])]
    result = namespace.run(namespace.world.python, "-m", "lab.clients.quic", *argv, timeout=timeout + 10).require()
    said = json.loads(result.out.splitlines()[-1])
    what = f"quic {address}, {'big ' if big else ''}ClientHello for {name}"
    return Attempt(namespace.label, what, said["outcome"], said["detail"], said["ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--timeout", type=float, default=3.0)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(request(arguments.address, arguments.name, arguments.big, arguments.timeout))))


if __name__ == "__main__":
    main()
