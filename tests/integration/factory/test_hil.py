"""`make hil` against the simulated board, with a relay."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from hil.__main__ import main
from tests.integration.factory.conftest import Workshop
from tests.support.simboard import ROOT, SimBoard

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
BAKED = ROOT / "package/vigie/base/base.img"


@pytest.fixture
def flashed(workshop: Workshop, board: SimBoard) -> SimBoard:
    """With the image on its eMMC, switched on."""
    with board.emmc.open("r+b") as disk:
        disk.write(workshop.image.read_bytes())
    baked = board.home / "root/usr/share/vigie/base.img"
    baked.parent.mkdir(parents=True)
    shutil.copy(BAKED, baked)
    return board


def judged(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main([*argv, "--boot", "20", "--patience", "5", "--off", "0"]) == code
    captured = capsys.readouterr()
    said: dict[str, Any] = json.loads(captured.out.splitlines()[-1])["hil"]
    return said


@pytest.fixture
def relay(tmp_path: Path, flashed: SimBoard) -> Any:
    """A command that switches the simulated board: it writes its word into a pipe."""
    pipe = tmp_path / "relay"
    os.mkfifo(pipe)
    words: list[str] = []

    def listen() -> None:
        while True:
            with pipe.open() as stream:
                for word in stream.read().split():
                    words.append(word)
                    if word == "stop":
                        return
                    (flashed.off if word == "off" else flashed.on)()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield f"sh -c 'echo {{state}} > {pipe}'", words
    pipe.write_text("stop")
    thread.join(10)


def test_a_board_in_the_factory(flashed: SimBoard, relay: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A released image, fresh from flashing. No systemd here: units and Python's start cannot hold, and do not."""
    command, words = relay
    flashed.on()
    said = judged(capsys, str(flashed.port), "--relay", command, code=1)
    assert words == ["off", "on"]
    assert len(flashed.boots) >= 2
    assert said["failed"] == ["before-python", "toxic-refused", "units", "hard-reset"], said
    assert set(said["not_judged"]) == {"never-unfiltered", "enrolled", "central-indicator"}
    assert (said["forward_s"], said["chip"], said["version"]) == (4.1, flashed.chip, "1.2.3")
    assert flashed.identity("identity.key") is None  # it only asked


def test_a_development_image_in_service(flashed: SimBoard, capsys: pytest.CaptureFixture[str]) -> None:
    """Sealed and enrolled; the report program answers. Traffic goes past this board, to two real sockets."""
    (flashed.home / "identity/box.json").write_text("{}")
    flashed.faults({"report_only": True})
    status = flashed.home / "root/data/vigie/enrol/status.json"
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"code": "member", "since": 1}))
    with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        reach, toxic = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in (good, closed))
        with flashed.emmc.open("r+b") as disk:  # mounted before: nothing is fresh
            disk.seek((24 << 20) + 1024 + 52)
            disk.write(b"\1\0")
        flashed.on()
        said = judged(capsys, str(flashed.port), "--reach", reach, "--toxic", toxic, code=1)
        assert said["failed"] == ["before-python", "units", "hard-reset"], said
        assert said["not_judged"] == {}
        assert said["unfiltered_ms"] == 0
        # The toxic address answers: both expectations about it fail.
        said = judged(capsys, str(flashed.port), "--toxic", reach, code=1)
        assert said["failed"] == ["never-unfiltered", "before-python", "toxic-refused", "units", "hard-reset"], said


def test_no_board(flashed: SimBoard, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(flashed.port), "--boot", "0.5"]) == 1
    captured = capsys.readouterr()
    assert "no board answers" in " ".join(captured.err.split())
    assert "boot" in json.loads(captured.out)["hil"]["failed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--toxic", "192.0.2.66"), "192.0.2.66: ADDRESS:PORT is expected"),
        (("--relay", "usbrelay A=1"), "must hold {state}"),
        (("--relay", "sh 'x {state}"), "No closing quotation"),
    ],
)
def test_asked_wrongly(
    flashed: SimBoard, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """Not a board that failed: one line, nothing judged."""
    assert main([str(flashed.port), *words]) == 2
    captured = capsys.readouterr()
    assert said in " ".join(captured.err.split())
    assert captured.out == ""


def test_no_such_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said at once, not after the time that a board may take to start."""
    (tmp_path / "file").touch()
    for port in (tmp_path / "ttyUSB9", tmp_path / "file"):
        assert main([str(port)]) == 2
        captured = capsys.readouterr()
        assert "cannot be opened" in " ".join(captured.err.split())
        assert captured.out == ""
