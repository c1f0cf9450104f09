"""HTTPS to the department's repository, for python-tuf: bounded in bytes and time, resumed, and nobody else's proxy.

One connection for one look; each request has a deadline that no trickle passes (a timer cuts the socket). A large
target goes to a file that stays when the connection breaks: the next attempt asks for the rest (RFC 9110, Range). Its
address holds its digest, so what is there should be the beginning of the same file; TUF checks the whole at the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import io
import re
import shutil
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, NameResolutionError, ProxyError, SystemTimeWarning

from vigie import __version__
from vigie.errors import HostError
from vigie.host import tls
from vigie.host.boxconfig import BoxConfig
from vigie.host.systemd import Watchdog
from vigie.host.trusted_clock import ClockReader

from .codes import Code

#: A file larger than this is kept on disk while it comes, and resumed.
SMALL: Final = 256 * 1024
#: A line slower than this is given up (for now); the deadline of a file follows from its size.
SLOWEST: Final = 8 * 1024
#: Room that must stay on the partition beside what is fetched.
MARGIN: Final = 16 << 20
_CHUNK: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes (\d{1,12})-(\d{1,12})/(\d{1,12})")
_NO_WAY: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})
# A clock at 1970 is expected here and judged elsewhere (`host.tls`).
warnings.filterwarnings("ignore", category=SystemTimeWarning)


class FetchError(DownloadError):
    """Nothing was had. code: the reason, as far as it can be told from here."""

    def __init__(self, code: Code, detail: str) -> None:
        self.code = code
        super().__init__(detail)


class Fetcher(FetcherInterface):
    """python-tuf's network, for one look at the repository. `close` ends the connection."""

    def __init__(self, config: BoxConfig, clock: ClockReader, partial: Path) -> None:
        self._config = config
        self._clock = clock
        self._partial = partial
        self._times = config.intervals.update
        self._connection: HTTPSConnection | None = None
        self._late = False
        self._drained = False
        self._watchdog = Watchdog()
        self.received = 0  # bytes of bodies, since the beginning

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- what python-tuf calls ---------------------------------------------------------------------------------

    def _fetch(self, url: str) -> Iterator[bytes]:
        """The interface's primitive; both methods below do without."""
        yield self.download_bytes(url, SMALL)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """A small file. Raises DownloadError and its kin."""
        with self._deadline(0), self._translated(url), self._response(url, 0) as response:
            self._success(response, url, {200})
            data = bytearray()
            for chunk in self._chunks(response, url, max_length):
                data += chunk
            return bytes(data)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """A file of exactly `max_length` bytes, open for reading. What cannot be right is removed."""
        if max_length <= SMALL:
            yield io.BytesIO(self.download_bytes(url, max_length))
            return
        path = self._partial / hashlib.sha256(url.encode()).hexdigest()[:32]
        with self._translated(url):
            self._make_room(path, max_length)
            self._complete(url, path, max_length)
        try:
            with path.open("rb") as file:
                yield file
        except LengthOrHashMismatchError:
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)

    def size(self, url: str) -> int:
        """Bytes of a file that the server gives in parts (RFC 9110, Range); the first byte alone is asked for. Raises
        DownloadError and its kin."""
        with self._deadline(0), self._translated(url), self._response(url, 0, 0) as response:
            self._success(response, url, {206})
            said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status != 206 or said is None:
                raise FetchError(Code.HTTP, f"{url}: the server does not give parts of a file")
            for _chunk in self._chunks(response, url, 1):
                pass
            return int(said[3])

    # ---- files that are resumed --------------------------------------------------------------------------------

    def _make_room(self, path: Path, length: int) -> None:
        """Other beginnings go: one file is fetched at a time. Raises OSError ENOSPC before anything is asked for."""
        self._partial.mkdir(parents=True, exist_ok=True)
        for other in self._partial.iterdir():
            if other != path:
                other.unlink(missing_ok=True)
        have = path.stat().st_size if path.exists() else 0
        # Twice: python-tuf copies what it has verified.
        if shutil.disk_usage(self._partial).free < 2 * length - have + MARGIN:
            raise OSError(errno.ENOSPC, f"less than {(2 * length + MARGIN) >> 20} MB are free", str(self._partial))

    def _complete(self, url: str, path: Path, length: int) -> None:
        have = path.stat().st_size if path.exists() else 0
        if have > length:
            path.unlink()
            have = 0
        if have == length:
            return
        try:
            with path.open("ab") as file, self._deadline(length - have), self._response(url, have) as response:
                if have and response.status == 416:
                    raise DownloadLengthMismatchError(f"{url}: ends before byte {have} of {length}")
                self._success(response, url, {206} if have else {200})
                if have and response.status == 200:  # a server without ranges begins again
                    file.truncate(0)
                    have = 0
                for chunk in self._chunks(response, url, length - have):
                    file.write(chunk)
        except DownloadLengthMismatchError:
            path.unlink(missing_ok=True)  # not the file that is signed, whatever follows
            raise
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                path.unlink(missing_ok=True)
            raise
        if path.stat().st_size < length:
            raise FetchError(Code.INCOMPLETE, f"{url}: {path.stat().st_size} of {length} bytes")

    # ---- requests ----------------------------------------------------------------------------------------------

    @contextmanager
    def _response(self, url: str, start: int, end: int | None = None) -> Iterator[Any]:
        """The answer to a GET; its connection can be used again when all of it was read."""
        response = self._ask(url, start, end)
        self._drained = False
        try:
            yield response
        finally:
            if not self._drained or response.headers.get("Connection", "").lower() == "close":
                self.close()

    def _ask(self, url: str, start: int, end: int | None) -> Any:
        again = self._connection is not None
        try:
            return self._request(url, start, end)
        except (ConnectionError, http.client.HTTPException):
            self.close()
            if not again or self._late:
                raise
            return self._request(url, start, end)  # the server closed a connection that was kept for the next file

    def _request(self, url: str, start: int, end: int | None) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        host, port = self._config.update_host, self._config.ports.https
        headers = {
            "Host": host if port == 443 else f"{host}:{port}",
            "Accept-Encoding": "identity",
            "User-Agent": f"vigie/{__version__}",
        }
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        self._connection.request(
            "GET", urlsplit(url).path, headers=headers, preload_content=False, decode_content=False
        )
        return self._connection.getresponse()

    def _connect(self) -> HTTPSConnection:
        config = self._config
        host, port = config.update_host, config.ports.https
        where, at = config.address_of(host), port
        if config.proxy:
            proxy = urlsplit(config.proxy)
            where, at = proxy.hostname or "", proxy.port or 0
        connection = HTTPSConnection(
            where, at, timeout=self._times.connect_s, ssl_context=tls.client_context(config.paths.roots),
            server_hostname=host, proxy=urllib3.util.parse_url(config.proxy) if config.proxy else None,
        )  # fmt: skip
        if config.proxy:
            connection.set_tunnel(host, port, scheme="http")
        self._connection = connection  # before connecting, so that the deadline can cut it
        connection.connect()
        sock = connection.sock
        if not isinstance(sock, ssl.SSLSocket):
            raise FetchError(Code.SERVER_KEY, "the connection is not TLS")
        tls.check_dates(tls.verified_chain(sock), self._clock.time(), self._clock.floor())
        sock.settimeout(self._times.read_s)
        return connection

    def _success(self, response: Any, url: str, wanted: set[int]) -> None:
        status = int(response.status)
        if status == 206 and 206 in wanted:
            said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if said is None:
                raise FetchError(Code.HTTP, f"{url}: a part of it, without saying which")
            return
        if status == 200:
            return
        with contextlib.suppress(DownloadError, HTTPError, OSError):
            for _chunk in self._chunks(response, url, SMALL):
                pass  # so that the connection can be used again
        raise DownloadHTTPError(f"{url}: HTTP {status}", status)

    def _chunks(self, response: Any, url: str, most: int) -> Iterator[bytes]:
        announced = response.headers.get("Content-Length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:15]) > most:
            raise DownloadLengthMismatchError(f"{url}: {announced[:15]} bytes, at most {most} are expected")
        got = 0
        while chunk := response.read1(_CHUNK):
            got += len(chunk)
            self._watchdog.turn()
            self.received += len(chunk)
            if got > most:
                raise DownloadLengthMismatchError(f"{url}: more than the {most} bytes expected")
            yield chunk
        self._drained = True
        if announced.isdigit() and got < int(announced):
            raise FetchError(Code.INCOMPLETE, f"{url}: {got} of {announced} bytes")

    # ---- time and errors ---------------------------------------------------------------------------------------

    @contextmanager
    def _deadline(self, length: int) -> Iterator[None]:
        """Cuts the connection when a request of `length` bytes takes longer than the slowest line would."""
        self._late = False
        seconds = self._times.connect_s + 2 * self._times.read_s + length / SLOWEST
        alarm = threading.Timer(seconds, self._cut)
        alarm.daemon = True
        alarm.start()
        try:
            yield
        except (OSError, HTTPError, http.client.HTTPException, DownloadError) as e:
            if self._late:
                raise SlowRetrievalError(f"given up after {seconds:.0f} s") from e
            raise
        finally:
            alarm.cancel()
        if self._late:
            raise SlowRetrievalError(f"given up after {seconds:.0f} s")

    def _cut(self) -> None:
        self._late = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which waits for the other side's word.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        """Any failure as a DownloadError; what has to do with this machine's disk stays an OSError."""
        try:
            yield
        except DownloadHTTPError:
            raise  # an answer like any other: the connection goes on
        except DownloadError:
            self.close()
            raise
        except (HostError, HTTPError, OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            code = failure(e)
            if code is Code.DISK:
                raise
            if code is Code.SLOW:
                raise SlowRetrievalError(f"{url}: {e}") from e
            raise FetchError(code, f"{url}: {type(e).__name__}: {e}"[:300]) from e


def failure(error: BaseException) -> Code:
    """Why a request failed, from the exception that ended it."""
    at: BaseException | None = error
    seen: list[BaseException] = []
    while at is not None and at not in seen:
        seen.append(at)
        at = at.__cause__ or at.__context__
    for cause in seen:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return Code.DISK
    for cause in seen:
        if isinstance(cause, tls.CertificateDateError | ssl.SSLCertVerificationError):
            return Code.SERVER_KEY
        if isinstance(cause, HostError):
            return Code.TRUST
        if isinstance(cause, NameResolutionError | socket.gaierror):
            return Code.NO_DNS
        if isinstance(cause, ProxyError) or "Tunnel connection failed" in str(cause):
            return Code.PROXY
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Code.UNREACHABLE
        if isinstance(cause, TimeoutError | urllib3.exceptions.ReadTimeoutError):
            return Code.SLOW
        if isinstance(cause, ssl.SSLError) and "ALERT" not in str(cause).upper():
            return Code.SERVER_KEY
        if isinstance(cause, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
            return Code.INCOMPLETE
        if isinstance(cause, OSError) and cause.errno in _NO_WAY:
            return Code.NO_INTERNET
        if isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.RemoteDisconnected):
            return Code.HTTP
        if isinstance(cause, PermissionError | FileNotFoundError | NotADirectoryError):
            return Code.DISK
    return Code.UNREACHABLE
