"""The socket under the ingest's MQTT client: whole TLS records in, whole batches out.

The client asks for one byte, then for a length, then for the rest, and sends each acknowledgement by itself. Each of
those would be a call into TLS that gives up the interpreter's lock, which the thread that commits takes and keeps.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, Final

_RECORD: Final = 65536


class Socket(ssl.SSLSocket):
    """Used by one thread; does not block. `dry`: the last read found nothing more, for now."""

    dry = False
    _in = b""
    _out: bytearray | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()  # the client forgets it as it is
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if not self._in:
            try:
                self._in = super().recv(_RECORD, flags)
            except ssl.SSLWantReadError:
                self.dry = True
                raise
        taken, self._in = self._in[:buflen], self._in[buflen:]
        return taken

    def send(self, data: Any, flags: int = 0) -> int:
        """Keeps the data for `flush`."""
        if self._out is None:
            self._out = bytearray()
        self._out += data
        return len(data)

    def flush(self) -> bool:
        """Send what is kept, as far as it goes; whether all of it went. OSError when the connection is gone."""
        try:
            while self._out:
                del self._out[: super().send(self._out)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return False
        return True

    def close(self) -> None:
        # the client closes as soon as it has "sent" its farewell
        with contextlib.suppress(OSError, ValueError):
            self.flush()
        super().close()


class Context(ssl.SSLContext):
    """Checks the broker's certificate against its public name, whatever address it is reached at."""

    sslsocket_class = Socket
    name: str

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        kwargs["server_hostname"] = self.name
        return super().wrap_socket(*args, **kwargs)
