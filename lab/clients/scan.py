"""A scan from the internet: connection attempts to many ports of one machine at once."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from dataclasses import dataclass
from typing import cast

from lab.netns import Namespace


@dataclass(frozen=True, slots=True)
class Scan:
    """Ports by what became of them."""

    open: list[int]
    refused: list[int]
    silent: list[int]
    ms: float

    @property
    def evidence(self) -> str:
        counts = f"{len(self.open)} open {self.open[:5]}, {len(self.refused)} refused, {len(self.silent)} silent"
        return f"{counts}, {self.ms:.0f} ms"


def scan(namespace: Namespace, source: str, target: str, ports: list[int], seconds: float = 2.0) -> Scan:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    start = time.monotonic()
    pending: dict[socket.socket, int] = {}
    open_: list[int] = []
    refused: list[int] = []
    with selectors.DefaultSelector() as selector:
        for port in ports:
            sock = namespace.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.bind((source, 0))
            code = sock.connect_ex((target, port))
            if code == errno.EINPROGRESS:
                selector.register(sock, selectors.EVENT_WRITE)
                pending[sock] = port
            else:
                (open_ if code == 0 else refused).append(port)
                sock.close()
        while pending and (left := start + seconds - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                sock = cast(socket.socket, key.fileobj)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                (open_ if code == 0 else refused).append(pending.pop(sock))
                selector.unregister(sock)
                sock.close()
        silent = sorted(pending.values())
        for sock in pending:
            sock.close()
    return Scan(sorted(open_), sorted(refused), silent, (time.monotonic() - start) * 1000)
