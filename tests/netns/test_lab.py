"""The lab from outside, as `make lab-check` and `make lab` start it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.scenario import EXPECTATIONS

UNATTENDED_S = 600


@pytest.mark.slow
@pytest.mark.timeout(UNATTENDED_S + 30)
def test_unattended_run_holds_every_expectation(repo_root: Path) -> None:
    argv = [sys.executable, "-m", "lab", "--check"]
    done = subprocess.run(argv, cwd=repo_root, capture_output=True, text=True, timeout=UNATTENDED_S, check=False)
    assert done.stdout, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])["lab"]
    assert (last["failed"], done.returncode) == ([], 0), done.stdout + done.stderr
    assert last["expectations"] == len(EXPECTATIONS)
    times = last["times"]
    assert {"refusal", "swap", "loop", "daemon_restart", "unfiltered_ms", "setup_s"} <= times.keys()
    assert {"enrol_s", "plugged_to_enforced_s", "enforce_s", "order_s", "alert_s", "revoked_s"} <= times.keys()
    assert times["unfiltered_ms"] == 0
    assert max(times["refusal"], times["refusal_name"], times["refusal_sni"], times["loop"]) <= 1000


def test_every_expectation_is_named_once_and_said_in_french() -> None:
    names = [expectation.name for expectation in EXPECTATIONS]
    assert len(set(names)) == len(names)
    assert all(expectation.sentence[0].isupper() or expectation.sentence[0] == "«" for expectation in EXPECTATIONS)


def test_unknown_expectation_is_refused_before_anything_is_built(repo_root: Path) -> None:
    argv = [sys.executable, "-m", "lab", "--check", "--only", "nonsense"]
    done = subprocess.run(argv, cwd=repo_root, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "no expectation named nonsense" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_live_view_shows_what_is_blocked_and_quits_on_q(repo_root: Path) -> None:
    """In a terminal: the office works, a key makes a bad click, the reason is shown in French, `q` leaves nothing."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(repo_root)
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "36"}
        os.execve(sys.executable, [sys.executable, "-m", "lab"], environment)  # noqa: S606
    seen = b""

    def read_until(pattern: str, seconds: float, key: bytes = b"") -> None:
        """`key` is pressed again every two seconds meanwhile."""
        nonlocal seen
        deadline, pressed = time.monotonic() + seconds, 0.0
        while not re.search(pattern.encode(), seen):
            assert time.monotonic() < deadline, (
                f"{pattern} not shown within {seconds} s:\n{seen[-4000:].decode(errors='replace')}"
            )
            if key and time.monotonic() - pressed > 2:
                os.write(terminal, key)
                pressed = time.monotonic()
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)

    try:
        read_until("Débit", 300)
        read_until("nom toxique", 30, b"n")
        os.write(terminal, b"q")
        deadline = time.monotonic() + 30
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            assert time.monotonic() < deadline, "q does not quit"
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:  # the other end is closed
                    continue
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(terminal)
        if pid:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
