"""JSON lines over a unix socket, for the daemons of the department that hold keys.

One request per line, `{"op": ..., ...}`; its answer is `{"ok": true, "result": ...}` or `{"ok": false, "error":
{"message": ..., "code": ...}}`. Who speaks is decided by the kernel's word (SO_PEERCRED) and nothing else: each
operation names the users and groups that may call it; root and the daemon's own user always may. Sizes, clients and
times are bounded, and one user cannot take every place.

    server = Server(path, {"sign": Operation(sign, allow=Allow(users=("vigie-console",)))}, errors=(MyError,))
    await server.start(); await server.wait()          # or: run(server)
    Client(path).call("sign", payload=...)             # blocking; RemoteError carries the server's code

Operations receive `(peer, params)`. A coroutine function runs on the loop. A plain function runs in the server's only
worker thread, so plain functions never run two at once: what a single writer wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import inspect
import json
import logging
import os
import pwd
import signal
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigie_provisioning.errors import (
    BusyError,
    ConfigError,
    DeniedError,
    ProvisioningError,
    RemoteError,
    UnreachableError,
    UsageError,
)

log = logging.getLogger("vigie.jsonsocket")

Params = dict[str, Any]
REQUEST_MAX = 1 << 20
ANSWER_MAX = 16 << 20
CLIENTS_MAX = 64
CLIENTS_PER_USER = 24
IDLE_S = 60.0
CALL_S = 120.0
WRITE_S = 10.0
_UCRED = struct.Struct("3i")


@dataclass(slots=True, frozen=True)
class Peer:
    """Who is at the other end, by the kernel's word at the time of `connect`."""

    pid: int
    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, or `uid 1234` when the machine knows none: for logs."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


@dataclass(slots=True, frozen=True)
class Allow:
    """Users and groups, by name or number, that may call an operation besides root and the daemon's own user."""

    users: tuple[str | int, ...] = ()
    groups: tuple[str | int, ...] = ()
    anybody: bool = False

    def permits(self, peer: Peer) -> bool:
        """Whether `peer` may. A name that the machine does not know permits nobody."""
        if self.anybody or peer.uid in (0, os.geteuid()):
            return True
        return any(_uid(user) == peer.uid for user in self.users) or any(_in_group(peer, g) for g in self.groups)


Handler = Callable[[Peer, Params], Any] | Callable[[Peer, Params], Awaitable[Any]]


@dataclass(slots=True, frozen=True)
class Operation:
    """What runs for one `op`, and who may ask for it."""

    handler: Handler
    allow: Allow = field(default_factory=Allow)


class Server:
    """Listens at `path`.

    path: the socket; its folder is made if missing. mode: of the socket file; 0o666 is right when operations name
    several users, since each call is judged anyway. group: owner group of the file, by name. errors: exceptions that
    are told to the caller with their `code`; every other exception is logged whole and told as `internal`. executor:
    where plain functions run; by default a single thread of the server's own.
    """

    def __init__(
        self,
        path: Path,
        operations: Mapping[str, Operation],
        *,
        errors: tuple[type[Exception], ...] = (),
        mode: int = 0o600,
        group: str | None = None,
        executor: Executor | None = None,
        request_max: int = REQUEST_MAX,
        answer_max: int = ANSWER_MAX,
    ) -> None:
        self.path = path
        self._operations = dict(operations)
        self._errors: tuple[type[Exception], ...] = (ProvisioningError, *errors)
        self._mode = mode
        self._group = group
        self._own = ThreadPoolExecutor(1, "jsonsocket") if executor is None else None
        self._executor = executor if executor is not None else self._own
        self._request_max = request_max
        self._answer_max = answer_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._users: Counter[int] = Counter()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to listen. ConfigError when another process answers there, or the place cannot be had."""
        sock = bind(self.path, self._mode, self._group)
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=self._request_max)

    async def wait(self) -> None:
        """Returns when cancelled or stopped."""
        if self._server is None:
            raise UsageError(f"{self.path}: not started")
        await self._server.serve_forever()

    async def stop(self) -> None:
        """Closes the socket and every conversation; a plain function that runs is waited for."""
        if self._server is not None:
            # First nothing new, then a few turns of the loop: a conversation just accepted begins, and can then be
            # ended in order. Closed at once, the server would leave it half made.
            for sock in self._server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            for _ in range(10):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        if self._own is not None:
            await asyncio.to_thread(self._own.shutdown, wait=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task here
        peer = peer_of(writer.get_extra_info("socket"))
        self._tasks.add(task)
        self._users[peer.uid] += 1
        try:
            if len(self._tasks) > CLIENTS_MAX or self._users[peer.uid] > CLIENTS_PER_USER:
                await self._write(writer, _refusal(BusyError(f"{self.path}: too many clients at once; try again")))
            else:
                await self._converse(peer, reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._users[peer.uid] -= 1
            if not self._users[peer.uid]:
                del self._users[peer.uid]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
            except ValueError:
                await self._write(writer, _refusal(UsageError(f"a request has at most {self._request_max} bytes")))
                return
            if not line:
                return
            await self._write(writer, await self._answer(peer, line))

    async def _answer(self, peer: Peer, line: bytes) -> dict[str, Any]:
        try:
            params = _request(line)
            name = params.pop("op")
            operation = self._operations.get(name)
            if operation is None:
                raise UsageError(f"unknown operation `{name}`")
            if not operation.allow.permits(peer):
                log.warning("denied: %s (%s) asked for `%s`", peer.name, peer.pid, name)
                raise DeniedError(f"{peer.name} may not `{name}` here")
            return {"ok": True, "result": await self._run(operation.handler, peer, params)}
        except self._errors as e:
            return _refusal(e)
        except TimeoutError:
            log.error("an operation took more than %s s", CALL_S)
            return _refusal(BusyError(f"no answer within {CALL_S:.0f} s; it may still be done, ask for the state"))
        except Exception as e:
            # A fault in one operation must not take the daemon down; it is told and logged whole.
            log.exception("operation failed")
            return {"ok": False, "error": {"message": f"internal error: {type(e).__name__}", "code": "internal"}}

    async def _run(self, handler: Handler, peer: Peer, params: Params) -> Any:
        async with asyncio.timeout(CALL_S):
            if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "func", None)):
                return await handler(peer, params)
            return await asyncio.get_running_loop().run_in_executor(self._executor, handler, peer, params)

    async def _write(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        data = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
        if len(data) > self._answer_max:
            data = json.dumps(_refusal(UsageError("the answer is too large; ask for less"))).encode() + b"\n"
        writer.write(data)
        async with asyncio.timeout(WRITE_S):
            await writer.drain()


def run(server: Server, ready: Callable[[], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT. `ready` is called once it listens."""

    async def go() -> None:
        await server.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            if ready is not None:
                ready()
            await stop.wait()
        finally:
            await server.stop()

    asyncio.run(go())


@dataclass(slots=True, frozen=True)
class Client:
    """A blocking client; each call is a connection of its own, so one object may serve many threads.

    timeout_s: for the whole call. answer_max: bytes of one answer.
    """

    path: Path
    timeout_s: float = CALL_S + 10.0
    answer_max: int = ANSWER_MAX

    def call(self, op: str, **params: Any) -> Any:
        """The result of one operation.

        Raises RemoteError (what the server refused, with its code) and UnreachableError (nobody there, no answer in
        time, or not this protocol).
        """
        line = json.dumps({"op": op, **params}, ensure_ascii=False).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(self.timeout_s)
                sock.connect(str(self.path))
                # A server that refuses at once closes before it has read everything: its answer is there all the same.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(line)
                data = self._read(sock)
        except TimeoutError as e:
            raise UnreachableError(f"{self.path}: no answer to `{op}` within {self.timeout_s:.0f} s") from e
        except OSError as e:
            raise UnreachableError(
                f"{self.path}: {e.strerror or e}; is the daemon running, and may this user open its socket?"
            ) from e
        return _result(self.path, data)

    def _read(self, sock: socket.socket) -> bytes:
        with sock.makefile("rb") as stream:
            return stream.readline(self.answer_max + 1)


def peer_of(sock: socket.socket) -> Peer:
    """The other end of a connected unix socket."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def _result(path: Path, data: bytes) -> Any:
    if not data.endswith(b"\n"):
        raise UnreachableError(f"{path}: the answer breaks off or is too large ({len(data)} bytes)")
    try:
        answer = json.loads(data)
        if answer["ok"]:
            return answer["result"]
        error = answer["error"]
        refusal = RemoteError(str(error["message"]), str(error["code"]))
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UnreachableError(f"{path}: what answers there does not speak this protocol") from e
    raise refusal


def _request(line: bytes) -> Params:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise UsageError("a request is one line of JSON") from e
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise UsageError("a request is a JSON object with `op`")
    return request


def _refusal(error: Exception) -> dict[str, Any]:
    return {"ok": False, "error": {"message": str(error), "code": str(getattr(error, "code", "failed"))}}


def _uid(user: str | int) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return -1


def _in_group(peer: Peer, group: str | int) -> bool:
    try:
        wanted = grp.getgrgid(group) if isinstance(group, int) else grp.getgrnam(group)
        return peer.gid == wanted.gr_gid or pwd.getpwuid(peer.uid).pw_name in wanted.gr_mem
    except KeyError:
        return False


def bind(path: Path, mode: int, group: str | None) -> socket.socket:
    """A socket at `path` with `mode`; what a dead daemon left there is replaced. ConfigError."""
    if answers(path):
        raise ConfigError(f"{path}: another process listens there; stop it first, or use another socket")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
    except OSError as e:
        sock.close()
        raise ConfigError(f"{path}: cannot listen there ({e.strerror or e})") from e
    except KeyError as e:
        sock.close()
        raise ConfigError(f"{path}: there is no group `{group}`") from e
    finally:
        os.umask(old)
    return sock


def answers(path: Path) -> bool:
    """Whether somebody listens at a unix socket: what a dead daemon leaves does not."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True
