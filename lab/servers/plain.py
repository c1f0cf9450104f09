"""Plain TCP: an echo port and a sink port (counts what it is given); UDP echo on the addresses named."""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import cast

from lab.servers.report import say


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    total, error = 0, ""
    address = str(writer.get_extra_info("sockname")[0]).removeprefix("::ffff:")
    say("opened", to=address)
    try:
        while data := await reader.read(1 << 18):
            total += len(data)
    except OSError as failure:
        error = str(failure)
    finally:
        writer.close()
    say("sink", to=address, bytes=total, error=error)


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # 3.11's is not a subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def run(echo_port: int, sink_port: int, udp_port: int, addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for port, handler in ((echo_port, echo), (sink_port, sink)):
        if port:
            sock = socket.create_server(("::", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
            await asyncio.start_server(handler, sock=sock)
    for address in addresses:
        await loop.create_datagram_endpoint(UdpEcho, local_addr=(address, udp_port))
    say("ready")
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--echo", type=int, default=0)
    parser.add_argument("--sink", type=int, default=0)
    parser.add_argument("--udp", type=int, default=7007)
    parser.add_argument("--address", action="append", default=[])
    arguments = parser.parse_args()
    asyncio.run(run(arguments.echo, arguments.sink, arguments.udp, arguments.address))


if __name__ == "__main__":
    main()
