"""The daemon's socket: requests, errors, streams, bounds, who may speak."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vigie.errors import DaemonError, UsageError
from vigie.filter import client
from vigie.filter.api import Api, Hub, Params, may_speak
from vigie.filter.client import REQUEST_MAX
from vigie.filter.journal import Attempt


async def echo(params: Params) -> dict[str, Any]:
    return dict(params)


async def refuse(_params: Params) -> dict[str, Any]:
    raise UsageError("makes no sense")


async def broken(_params: Params) -> dict[str, Any]:
    raise RuntimeError("a fault")


async def count(params: Params) -> AsyncIterator[dict[str, Any]]:
    for number in range(int(params["to"])):
        yield {"number": number}


async def for_ever(_params: Params) -> AsyncIterator[dict[str, Any]]:
    yield {"number": 0}
    await asyncio.Event().wait()


def served(path: Path, talk: Callable[[], Any]) -> Any:
    """`talk()` in a thread while the API listens at `path`."""

    async def go() -> Any:
        api = Api({"echo": echo, "refuse": refuse, "broken": broken}, {"count": count, "for-ever": for_ever})
        await api.start(path)
        try:
            return await asyncio.to_thread(talk)
        finally:
            await api.stop()

    return asyncio.run(go())


def raw(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"".join(lines))
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as stream:
            return [json.loads(line) for line in stream]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "filter.sock"


def test_answers_and_cleans_up(path: Path) -> None:
    assert served(path, lambda: client.call(path, "echo", path="/x", n=1)) == {"path": "/x", "n": 1}
    assert not path.exists()


def test_the_socket_is_for_its_owner_only(path: Path) -> None:
    assert served(path, lambda: path.stat().st_mode & 0o777) == 0o600


def test_errors_are_those_of_the_daemon(path: Path) -> None:
    def talk() -> None:
        with pytest.raises(UsageError, match="makes no sense"):
            client.call(path, "refuse")
        with pytest.raises(DaemonError, match="RuntimeError: a fault"):
            client.call(path, "broken")
        with pytest.raises(UsageError, match="unknown operation"):
            client.call(path, "nothing")
        assert client.call(path, "echo") == {}  # the daemon is still there

    served(path, talk)


def test_several_requests_on_one_connection(path: Path) -> None:
    answers = served(
        path, lambda: raw(path, b'{"op": "echo", "n": 1}\n', b"nonsense\n", b'[]\n{"op": 3}\n', b'{"op": "echo"}\n')
    )
    assert [a["ok"] for a in answers] == [True, False, False, False, True]


def test_an_oversize_request_is_refused(path: Path) -> None:
    def talk() -> None:
        with pytest.raises(UsageError, match="larger than"):
            client.call(path, "echo", text="x" * REQUEST_MAX)
        (answer,) = raw(path, b"x" * (REQUEST_MAX + 1000))
        assert "at most" in answer["error"]["message"]

    served(path, talk)


def test_streams_end_when_either_side_ends(path: Path) -> None:
    def talk() -> None:
        assert [x["number"] for x in client.stream(path, "count", to=3)] == [0, 1, 2]
        endless = client.stream(path, "for-ever")
        assert next(endless) == {"number": 0}
        endless.close()  # type: ignore[attr-defined]
        assert client.call(path, "echo") == {}

    served(path, talk)


def test_a_second_daemon_is_refused_and_a_dead_one_is_replaced(path: Path) -> None:
    async def go() -> None:
        first, second = Api({"echo": echo}, {}), Api({"echo": echo}, {})
        await first.start(path)
        with pytest.raises(DaemonError, match="another"):
            await second.start(path)
        await first.stop()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        await second.start(path)
        await second.stop()

    asyncio.run(go())


def test_without_a_daemon_the_client_says_so(path: Path) -> None:
    with pytest.raises(DaemonError, match=r"filter\.sock"):
        client.call(path, "echo")


def test_who_may_speak() -> None:
    assert may_speak(0, 0, "") and may_speak(os.geteuid(), 12345, "")
    stranger = 54_321
    assert not may_speak(stranger, stranger, "") and not may_speak(stranger, stranger, "no-such-group")
    assert not may_speak(stranger, stranger, "root") and may_speak(stranger, 0, "root")


def test_a_watcher_that_does_not_read_loses_the_oldest() -> None:
    async def go() -> None:
        hub = Hub()
        hub.publish(Attempt(0.0, "", "nobody listens", 0, 0))
        with hub.subscribed() as slow:
            for i in range(1500):
                hub.publish(Attempt(float(i), "", "x", 0, 0))
            assert slow.qsize() == 1000 and slow.get_nowait().when == 500.0
        hub.publish(Attempt(0.0, "", "gone", 0, 0))

    asyncio.run(go())


@pytest.mark.parametrize("turns", range(8))
def test_who_has_just_connected_is_not_left_waiting(tmp_path: Path, turns: int) -> None:
    """The API stops while a conversation is about to begin, and the loop is held up meanwhile."""
    path = tmp_path / "a.sock"

    async def go() -> socket.socket:
        api = Api({"echo": echo}, {})
        await api.start(path)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.sendall(b'{"op": "echo"}\n')
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping = asyncio.create_task(api.stop())
        asyncio.get_running_loop().call_soon(time.sleep, 0.03)
        await stopping
        return client

    loop = asyncio.new_event_loop()
    try:
        sock = loop.run_until_complete(go())
    finally:
        loop.close()
    with sock:
        sock.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
