"""The daemon's socket: JSON lines over a Unix socket, for the command line, the page and the link.

One request per line, `{"op": ..., ...}`; the answer is `{"ok": true, "result": ...}` or
`{"ok": false, "error": {"message": ..., "code": ...}}`; a stream answers with many lines. Who may speak is decided by
the kernel's word (SO_PEERCRED): root, the daemon's own user, or a member of the configured group. Sizes, clients and
streams are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from vigie.errors import DaemonError, UsageError, VigieError
from vigie.filter.client import ANSWER_MAX, REQUEST_MAX
from vigie.filter.journal import Attempt
from vigie.filter.zones import Alert

log = logging.getLogger("vigie.filter")

Params = Mapping[str, Any]
Operation = Callable[[Params], Awaitable[dict[str, Any]]]
Stream = Callable[[Params], AsyncIterator[dict[str, Any]]]
CLIENTS_MAX = 64
IDLE_S = 300.0
WRITE_S = 10.0
QUEUE_MAX = 1000
BEGIN_TURNS = 10  # from an accepted connection to its conversation: asyncio takes 3
_UCRED = struct.Struct("3i")
#: User behind the conversation that an operation answers in: the kernel's word, for the few that only root may ask.
PEER: ContextVar[int] = ContextVar("peer")


class Api:
    """The server. `operations` answer once, `streams` until the client leaves."""

    def __init__(self, operations: Mapping[str, Operation], streams: Mapping[str, Stream], group: str = "") -> None:
        self._operations = operations
        self._streams = streams
        self._group = group
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listens at `path`. DaemonError when another daemon answers there already."""
        if await _answers(path):
            raise DaemonError(f"{path}: another `vigie filter run` listens there; stop it first, or use another socket")
        sock = _listen(path, self._group)
        self._path = path
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=REQUEST_MAX)

    async def stop(self) -> None:
        """Closes the socket and every conversation."""
        if self._server is not None:
            # First nobody new, then those just accepted begin, and can be ended in order. asyncio forgets a connection
            # whose server closes before it has begun: its client would wait for an answer that nobody gives. It takes
            # turns of the loop, not time: on a busy machine any time may pass in one turn.
            for sock in self._server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(BEGIN_TURNS):
                await asyncio.sleep(0)
            self._server.close()
        for task in list(self._clients):
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=2.0)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task here
        self._clients.add(task)
        try:
            problem = self._refusal(writer)
            if problem:
                await _write(writer, _error(DaemonError(problem)))
            else:
                await self._converse(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        if len(self._clients) > CLIENTS_MAX:
            return f"more than {CLIENTS_MAX} clients at once"
        sock = writer.get_extra_info("socket")
        _pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        PEER.set(uid)
        return "" if may_speak(uid, gid, self._group) else "root, or a member of the vigie group, may do this"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
            except ValueError:
                await _write(writer, _error(UsageError(f"a request has at most {REQUEST_MAX} bytes")))
                return
            if not line:
                return
            try:
                request = _request(line)
                op = request.pop("op")
                if op in self._streams:
                    await self._stream(self._streams[op](request), reader, writer)
                    return
                if op not in self._operations:
                    raise UsageError(f"unknown operation `{op}`")
                await _write(writer, {"ok": True, "result": await self._operations[op](request)})
            except VigieError as e:
                await _write(writer, _error(e))
            except (ConnectionError, TimeoutError):
                raise
            except Exception as e:
                # A fault in one operation must not take the filter down; it is told and logged whole.
                log.exception("operation failed")
                await _write(writer, _error(DaemonError(f"internal error: {type(e).__name__}: {e}")))

    async def _stream(
        self, items: AsyncIterator[dict[str, Any]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.create_task(reader.read(1))  # a watcher sends nothing more: a byte or the end means it left
        try:
            while not gone.done():
                step = asyncio.ensure_future(anext(items))
                done, _pending = await asyncio.wait({step, gone}, return_when=asyncio.FIRST_COMPLETED)
                if step not in done:
                    step.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await step
                    return
                await _write(writer, {"ok": True, "result": step.result()})
        except StopAsyncIteration:
            return
        finally:
            gone.cancel()


class Hub:
    """Hands what happens to whoever watches; a watcher that does not read loses the oldest, and only it."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Attempt | Alert]] = set()

    def publish(self, item: Attempt | Alert) -> None:
        """To every watcher."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)

    @contextlib.contextmanager
    def subscribed(self) -> Any:
        """A queue of what happens inside the `with`."""
        queue: asyncio.Queue[Attempt | Alert] = asyncio.Queue(QUEUE_MAX)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


def may_speak(uid: int, gid: int, group: str) -> bool:
    """Root, the daemon's own user, or a member of `group` ("" = nobody else)."""
    if uid in (0, os.geteuid()):
        return True
    if not group:
        return False
    try:
        wanted = grp.getgrnam(group)
        return gid == wanted.gr_gid or pwd.getpwuid(uid).pw_name in wanted.gr_mem
    except KeyError:
        return False


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise UsageError("a request is one line of JSON") from e
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise UsageError("a request is a JSON object with `op`")
    return request


def _error(error: VigieError) -> dict[str, Any]:
    return {"ok": False, "error": {"message": str(error), "code": error.exit_code}}


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    data = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
    if len(data) > ANSWER_MAX:
        data = json.dumps(_error(DaemonError("the answer is too large; ask for less"))).encode() + b"\n"
    writer.write(data)
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


def _listen(path: Path, group: str) -> socket.socket:
    """A socket at `path` that only those who may speak can open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
    except OSError as e:
        sock.close()
        raise DaemonError(f"{path}: cannot listen there ({e.strerror})") from e
    except KeyError as e:
        sock.close()
        raise DaemonError(f"socket_group: there is no group `{group}`") from e
    finally:
        os.umask(old)
    return sock


async def _answers(path: Path) -> bool:
    """Whether somebody listens at a socket: what a dead daemon leaves does not."""
    try:
        _reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
