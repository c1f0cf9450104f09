"""What services tell systemd: that they are ready, and, as often as it asks, that they are alive."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vigie.host.systemd import Watchdog, notify


def until(holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits; what is asserted is that it comes, not when."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.01)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What arrives at the socket of systemd."""
    path = tmp_path / "notify"
    found: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(0.1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        ending = threading.Event()

        def listen() -> None:
            while not ending.is_set():
                try:
                    found.append(sock.recv(4096).decode())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        yield found
        ending.set()
        thread.join()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    for asked in ({}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}):
        watchdog = Watchdog(asked)
        assert watchdog.every_s == 0.0
        watchdog.turn()
        asyncio.run(watchdog.keep())


def test_it_is_told_three_times_a_period_however_often_the_loop_turns(told: list[str]) -> None:
    watchdog = Watchdog({"WATCHDOG_USEC": "30000000"})
    assert watchdog.every_s == 10.0
    for _ in range(1000):
        watchdog.turn()
    until(lambda: told == ["WATCHDOG=1"], "one line")


def test_a_loop_that_stands_still_says_nothing(told: list[str]) -> None:
    """The point of a watchdog: no thread of its own speaks for a loop that hangs."""
    watchdog = Watchdog({"WATCHDOG_USEC": "30000"})
    watchdog.turn()
    until(lambda: len(told) == 1, "the first line")
    time.sleep(0.2)  # several periods
    assert told == ["WATCHDOG=1"]
    watchdog.turn()
    until(lambda: len(told) == 2, "the second line")


def test_an_asyncio_loop_goes_on_telling(told: list[str]) -> None:
    async def run() -> None:
        task = asyncio.create_task(Watchdog({"WATCHDOG_USEC": "30000"}).keep())
        await asyncio.to_thread(until, lambda: len(told) >= 3, "three lines")
        task.cancel()

    asyncio.run(run())
    assert set(told) == {"WATCHDOG=1"}


@pytest.mark.parametrize("words", [("page", "run"), ("update", "base", "run"), ("address", "run"), ("enrol", "run")])
def test_the_services_are_ready_and_alive(told: list[str], tmp_path: Path, words: tuple[str, ...]) -> None:
    """The real processes, with nothing around them: no bridge, no department."""
    config = tmp_path / "box.yaml"
    paths = ", ".join(f"{name}: {tmp_path}/{name}" for name in ("trust", "identity", "state", "run"))
    config.write_text(
        f"domain: vigie.lab\nbridge: absent0\nset_clock: false\npaths: {{{paths}, filter_socket: {tmp_path}/f.sock}}\n"
        "page: {address: 127.0.0.1, port: 8099}\n"
    )
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("vigie")), *words, "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"WATCHDOG_USEC": "3000000"},
    )  # fmt: skip
    try:
        until(lambda: "READY=1" in told and told.count("WATCHDOG=1") >= 2, f"{words}: {told}", seconds=60)
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
