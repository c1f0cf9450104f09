"""A TLS connection that is read in large pieces.

The broker sends each message as a TLS record of its own. Read straight from the socket, a record costs two system calls
and as many turns of the interpreter's lock, which the thread that commits holds in the meantime. Here one call takes
what the kernel has, and the records are opened in memory.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

_PIECE: Final = 256 * 1024


class Stream:
    """Connected; the socket does not block. Used by one thread only. Errors: OSError (ssl.SSLError is one)."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext, name: str, timeout: float) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._unsent = b""
        self.sock = socket.create_connection((address, port), timeout)
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._handshake()
            self.sock.setblocking(False)
        except BaseException:
            self.sock.close()
            raise

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self.sock.sendall(self._out.read())
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self._out.read())
                self._feed(self.sock.recv(_PIECE))
            except ssl.SSLError:
                # its alert tells the broker why
                self.sock.sendall(self._out.read())
                raise

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    def read(self) -> bytes:
        """What there is; b"" when there is nothing. ConnectionError when the other side has ended."""
        try:
            self._feed(self.sock.recv(_PIECE))
        except BlockingIOError:
            return b""
        pieces = []
        try:
            while piece := self._tls.read(65536):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces)
        raise ConnectionResetError("the broker closed the session")

    def write(self, data: bytes) -> None:
        """Keep for `flush`."""
        if data:
            self._tls.write(data)

    def flush(self) -> bool:
        """Send what is kept, as far as the kernel takes it; whether something is left."""
        self._unsent += self._out.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Without a word."""
        self.sock.close()

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the broker ended the connection")
        self._in.write(data)
