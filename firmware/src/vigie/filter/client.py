"""Talking to a running `vigie filter` over its socket: JSON lines, one request, then its answer or a stream of them.

Blocking and without heavy imports: commands start fast.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigie.errors import DaemonError, UsageError
from vigie.i18n import _

DEFAULT_SOCKET = Path("/run/vigie/filter.sock")
SOCKET_VARIABLE = "VIGIE_SOCKET"
REQUEST_MAX = 160 * 1024  # an order of the department in its envelope has up to 64 KiB
ANSWER_MAX = 4 * 1024 * 1024
TIMEOUT_S = 30.0
_EXIT_USAGE = 2


def call(path: Path, op: str, /, **params: Any) -> dict[str, Any]:
    """The answer to one request. Raises DaemonError, or UsageError when the request makes no sense to the daemon."""
    return call_within(TIMEOUT_S, path, op, **params)


def call_within(seconds: float, path: Path, op: str, /, **params: Any) -> dict[str, Any]:
    """As :func:`call`, for what takes longer than a person would wait."""
    with _connect(path) as sock:
        sock.settimeout(seconds)
        _send(sock, path, op, params)
        with sock.makefile("rb") as stream:
            return _answer(_line(stream, path), path)


def stream(path: Path, op: str, /, **params: Any) -> Iterator[dict[str, Any]]:
    """The answers of a request that goes on (`watch`), until the daemon ends it."""
    with _connect(path) as sock:
        _send(sock, path, op, params)
        with sock.makefile("rb") as lines:
            while True:
                line = lines.readline(ANSWER_MAX)
                if not line:
                    return
                yield _answer(line, path)


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT_S)
        sock.connect(str(path))
        sock.settimeout(None)
    except (FileNotFoundError, ConnectionRefusedError) as e:
        sock.close()
        raise DaemonError(
            _("{path} : le filtrage n'est pas lancé (vigie filter run), ou écoute ailleurs (--socket)").format(
                path=path
            )
        ) from e
    except PermissionError as e:
        sock.close()
        raise DaemonError(_("{path} : accès refusé ; il faut être administrateur").format(path=path)) from e
    except OSError as e:
        sock.close()
        raise DaemonError(f"{path}: {e}") from e
    return sock


def _send(sock: socket.socket, path: Path, op: str, params: dict[str, Any]) -> None:
    request = json.dumps({"op": op, **params}).encode() + b"\n"
    if len(request) > REQUEST_MAX:
        raise UsageError(f"the request is larger than {REQUEST_MAX} bytes")
    try:
        sock.sendall(request)
    except OSError as e:
        raise DaemonError(f"{path}: {e}") from e


def _line(stream: Any, path: Path) -> bytes:
    try:
        line: bytes = stream.readline(ANSWER_MAX + 1)
    except TimeoutError as e:
        raise DaemonError(_("{path} : pas de réponse à temps").format(path=path)) from e
    except OSError as e:
        raise DaemonError(f"{path}: {e}") from e
    return line


def _answer(line: bytes, path: Path) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise DaemonError(_("{path} : le filtrage a coupé la communication").format(path=path))
    try:
        answer = json.loads(line)
        if answer["ok"]:
            result: dict[str, Any] = answer["result"]
            return result
        error = answer["error"]
        message, code = str(error["message"]), int(error["code"])
    except (ValueError, KeyError, TypeError) as e:
        raise DaemonError(f"{path}: not the answer of vigie filter ({line[:80]!r})") from e
    raise UsageError(message) if code == _EXIT_USAGE else DaemonError(message)
