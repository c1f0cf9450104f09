"""The department's daemons' socket: requests, errors, bounds, and who may speak."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vigie_provisioning import jsonsocket
from vigie_provisioning.errors import ConfigError, RemoteError, UnreachableError, UsageError
from vigie_provisioning.jsonsocket import Allow, Client, Operation, Params, Peer, Server


class OtherError(Exception):
    code = "other"


def echo(peer: Peer, params: Params) -> dict[str, Any]:
    return {"uid": peer.uid, **params}


async def slow_echo(peer: Peer, params: Params) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"pid": peer.pid, **params}


def refuse(_peer: Peer, _params: Params) -> None:
    raise UsageError("makes no sense")


def refuse_otherwise(_peer: Peer, _params: Params) -> None:
    raise OtherError("of another tree")


def broken(_peer: Peer, _params: Params) -> None:
    raise RuntimeError("a secret")


OPERATIONS = {
    "echo": Operation(echo),
    "slow": Operation(slow_echo),
    "refuse": Operation(refuse),
    "other": Operation(refuse_otherwise),
    "broken": Operation(broken),
    "large": Operation(lambda _peer, params: "x" * params["size"]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "daemon.sock"


def served(path: Path, talk: Callable[[], Any], operations: Any = OPERATIONS, **options: Any) -> Any:
    """`talk()` in a thread while a server listens at `path`."""

    async def go() -> Any:
        server = Server(path, operations, errors=(OtherError,), **options)
        await server.start()
        try:
            return await asyncio.to_thread(talk)
        finally:
            await server.stop()

    return asyncio.run(go())


def raw(path: Path, data: bytes) -> list[Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as stream:
            return [json.loads(line) for line in stream]


def test_answers_with_the_kernels_word_and_cleans_up(path: Path) -> None:
    assert served(path, lambda: Client(path).call("echo", n=1)) == {"uid": os.geteuid(), "n": 1}
    assert not path.exists()


def test_a_coroutine_is_an_operation_too(path: Path) -> None:
    assert served(path, lambda: Client(path).call("slow", n="é")) == {"pid": os.getpid(), "n": "é"}


def test_many_requests_in_one_conversation(path: Path) -> None:
    lines = b'{"op":"echo","n":1}\n{"op":"echo","n":2}\n'
    assert [answer["result"]["n"] for answer in served(path, lambda: raw(path, lines))] == [1, 2]


@pytest.mark.parametrize(
    ("op", "code", "message"),
    [("refuse", "usage", "makes no sense"), ("other", "other", "of another tree"), ("nothing", "usage", "unknown op")],
)
def test_errors_carry_their_code(path: Path, op: str, code: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message) as caught:
        served(path, lambda: Client(path).call(op))
    assert caught.value.code == code


def test_a_fault_is_told_without_its_text(path: Path) -> None:
    with pytest.raises(RemoteError, match="RuntimeError") as caught:
        served(path, lambda: Client(path).call("broken"))
    assert caught.value.code == "internal"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b'{"op":1}\n', b"[" * 5000 + b"\n", b'{"op":"\xff"}\n']
)
def test_what_is_not_a_request(path: Path, line: bytes) -> None:
    [answer] = served(path, lambda: raw(path, line))
    assert (answer["ok"], answer["error"]["code"]) == (False, "usage")


def test_a_large_request_is_refused_and_the_conversation_ends(path: Path) -> None:
    with pytest.raises(RemoteError, match="at most 1000 bytes"):
        served(path, lambda: Client(path).call("echo", text="x" * 2000), request_max=1000)


def test_a_large_answer_is_refused(path: Path) -> None:
    with pytest.raises(RemoteError, match="too large"):
        served(path, lambda: Client(path).call("large", size=2000), answer_max=1000)


def test_the_client_does_not_read_more_than_it_wants(path: Path) -> None:
    with pytest.raises(UnreachableError, match="too large"):
        served(path, lambda: Client(path, answer_max=1000).call("large", size=2000))


def test_nobody_there(path: Path) -> None:
    with pytest.raises(UnreachableError, match="is the daemon running"):
        Client(path).call("echo")


def test_the_client_does_not_wait_for_ever(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(UnreachableError, match="no answer"):
            Client(path, timeout_s=0.05).call("echo")


def test_a_second_daemon_is_refused_and_a_dead_ones_socket_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    def second() -> None:
        with pytest.raises(ConfigError, match="another process"):
            asyncio.run(Server(path, OPERATIONS).start())

    served(path, second)


def test_mode_of_the_socket_file(path: Path) -> None:
    assert served(path, lambda: path.stat().st_mode & 0o777) == 0o600
    assert served(path, lambda: path.stat().st_mode & 0o777, mode=0o666) == 0o666


def test_no_such_group(path: Path) -> None:
    with pytest.raises(ConfigError, match="no group"):
        served(path, lambda: None, group="no-such-group-here")


def test_one_user_cannot_take_every_place(path: Path) -> None:
    def talk() -> Any:
        held = [socket.socket(socket.AF_UNIX) for _ in range(jsonsocket.CLIENTS_PER_USER)]
        try:
            for sock in held:
                sock.connect(str(path))
                sock.sendall(b'{"op":"echo"}\n')
                assert sock.recv(100)
            Client(path).call("echo")
        finally:
            for sock in held:
                sock.close()

    with pytest.raises(RemoteError) as caught:
        served(path, talk)
    assert caught.value.code == "busy"


def test_plain_operations_never_run_two_at_once(path: Path) -> None:
    running, most = 0, 0

    def count(_peer: Peer, _params: Params) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1

    def talk() -> None:
        threads = [threading.Thread(target=Client(path).call, args=("count",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    served(path, talk, {"count": Operation(count)})
    assert most == 1


@pytest.mark.parametrize(
    ("allow", "uid", "gid", "may"),
    [
        (Allow(), 0, 0, True),
        (Allow(), os.geteuid(), 12345, True),
        (Allow(), 54321, 54321, False),
        (Allow(users=(54321,)), 54321, 1, True),
        (Allow(users=(54321,)), 54322, 1, False),
        (Allow(users=("no-such-user-here",)), 54321, 1, False),
        (Allow(users=("daemon",)), 1, 1, True),
        (Allow(groups=("daemon",)), 54321, 1, True),
        (Allow(groups=(1,)), 54321, 2, False),
        (Allow(groups=("no-such-group-here",)), 54321, 1, False),
        (Allow(anybody=True), 54321, 54321, True),
    ],
)
def test_who_may_speak(allow: Allow, uid: int, gid: int, may: bool) -> None:
    assert allow.permits(Peer(1, uid, gid)) is may


OTHER_USER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b'{"op":"mine"}\\n{"op":"theirs"}\\n')
    sock.shutdown(socket.SHUT_WR)
    while data := sock.recv(4096):
        sys.stdout.buffer.write(data)
"""


def test_another_user_is_denied_per_operation() -> None:
    """A real process of another user: allowed for one operation, denied for the other."""
    if os.geteuid() != 0:
        assert not Allow().permits(Peer(1, os.geteuid() + 1, 1))
        return
    operations = {"mine": Operation(echo, Allow(users=(65534,))), "theirs": Operation(echo)}
    with tempfile.TemporaryDirectory(prefix="vigie-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "daemon.sock"

        def talk() -> bytes:
            argv = [sys.executable, "-c", OTHER_USER, str(path)]
            return subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=20).stdout

        mine, theirs = map(json.loads, served(path, talk, operations, mode=0o666).splitlines())
    assert mine == {"ok": True, "result": {"uid": 65534}}
    assert theirs["error"]["code"] == "denied"
