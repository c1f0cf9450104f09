"""The command line: help, options in any place, exit codes, what is asked of the daemon, what is printed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vigie import i18n
from vigie.cli import main, output
from vigie.cli.main import commands
from vigie.errors import DaemonError, UsageError
from vigie.filter import client

SOCKET = Path("/nowhere/filter.sock")


class Daemon:
    """Stands for the daemon: remembers requests, gives prepared answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[Path, str, dict[str, Any]]] = []
        self.answer: dict[str, Any] | Exception = {}
        self.items: list[dict[str, Any]] = []

    def call(self, path: Path, op: str, /, **params: Any) -> dict[str, Any]:
        self.requests.append((path, op, params))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def stream(self, path: Path, op: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        self.requests.append((path, op, params))
        yield from self.items


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    fake = Daemon()
    monkeypatch.setattr(client, "call", fake.call)
    monkeypatch.setattr(client, "stream", fake.stream)
    monkeypatch.setenv("VIGIE_SOCKET", str(SOCKET))
    i18n.use("fr")
    return fake


def test_help_names_every_command_and_imports_none() -> None:
    code = "import sys; from vigie.cli import main; main(['--help'])"
    heavy = "('numpy', 'asyncio', 'yaml', 'pyroute2', 'sqlite3', 'rich')"
    script = f"import atexit, sys; atexit.register(lambda: print([m for m in {heavy} if m in sys.modules])); {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in commands():
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("command", [c for c in commands() if c not in ("base", "replay")])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0 and f"vigie {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["why"], ["isolate", "7"], ["allow", "a.fr", "--for", "soon"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--socket", "/x.sock", "--json", "rules"],
        ["rules", "--json", "--socket", "/x.sock"],
        ["--json", "rules", "--socket=/x.sock"],
    ],
)
def test_common_options_may_stand_anywhere(
    arguments: list[str], daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = {"rules": [], "quarantine": [], "isolation": {"level": 0, "until": 0, "origin": ""}}
    assert main(arguments) == 0
    assert daemon.requests == [(Path("/x.sock"), "rules", {})]
    assert json.loads(capsys.readouterr().out) == daemon.answer


def test_the_variable_names_the_socket(daemon: Daemon) -> None:
    daemon.answer = {"rules": [], "quarantine": [], "isolation": {"level": 0, "until": 0, "origin": ""}}
    main(["rules"])
    assert daemon.requests[0][0] == SOCKET


RULE = {"target": "a.fr", "until": 1.7e9, "warning": ""}


@pytest.mark.parametrize(
    ("arguments", "answer", "op", "params"),
    [
        (
            ["allow", "a.fr"],
            RULE,
            "allow",
            {"target": "a.fr", "device": "", "proto": 0, "port": 0, "note": "", "for_s": 86_400.0},
        ),
        (
            ["block", "192.0.2.1", "--device", "aa", "--port", "443/tcp", "--for", "2h", "--note", "n"],
            RULE,
            "block",
            {"target": "192.0.2.1", "device": "aa", "proto": 6, "port": 443, "note": "n", "for_s": 7200.0},
        ),
        (["observe", "a.fr", "--remove"], RULE, "observe", {"target": "a.fr", "device": "", "remove": True}),
        (
            ["quarantine", "aa", "--for", "30min"],
            {"mac": "aa", "until": 1.7e9},
            "quarantine",
            {"mac": "aa", "for_s": 1800.0, "remove": False},
        ),
        (["isolate", "2"], {"level": 2, "until": 1.7e9}, "isolate", {"level": 2, "for_s": None}),
        (["isolate", "0"], {"level": 0, "until": 0}, "isolate", {"level": 0, "for_s": None}),
        (["learned", "--revoke", "aa", "443/tcp"], {}, "learned-revoke", {"mac": "aa", "proto": 6, "port": 443}),
        (["learned"], {"uses": []}, "learned", {}),
        (
            ["top", "devices", "--since", "7j", "--limit", "5"],
            {"by": "device", "rows": []},
            "top",
            {"by": "device", "since_s": 604_800.0, "limit": 5},
        ),
        (["self-test"], {"passed": True, "sentence": "Réussi"}, "self-test", {}),
        (["filter", "stop", "--detach"], {"detach": True}, "stop", {"detach": True}),
    ],
)
def test_what_is_asked_of_the_daemon(
    arguments: list[str], answer: dict[str, Any], op: str, params: dict[str, Any], daemon: Daemon
) -> None:
    daemon.answer = answer
    assert main(arguments) == 0
    assert daemon.requests == [(SOCKET, op, params)]


@pytest.mark.parametrize(("error", "code"), [(DaemonError("not there"), 1), (UsageError("odd"), 2)])
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_printed_whole_with_their_code(
    error: Exception, code: int, as_json: bool, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = error
    assert main(["rules", *(["--json"] if as_json else [])]) == code
    printed = capsys.readouterr()
    assert str(error) in printed.err
    if as_json:
        assert json.loads(printed.out) == {"error": {"message": str(error), "code": code}}


def test_a_failed_self_test_is_exit_1(daemon: Daemon) -> None:
    daemon.answer = {"passed": False, "sentence": "Échec"}
    assert main(["self-test"]) == 1


def test_watch_prints_each_thing_and_stops_at_count(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {
        "type": "attempt", "last": 1.7e9, "device": "aa", "destination": "toxic.example", "reason": 36, "verdict": 2,
        "category": 3, "packets": 4,
    }  # fmt: skip
    alert = {"type": "alert", "last": 1.7e9, "kind": "loop", "mac": "", "address": ""}
    daemon.items = [attempt, alert, attempt]
    assert main(["watch", "--count", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "toxic.example" in first and "hameçonnage" in first and first.endswith("×4")
    assert "même équipement" in second


def test_why_shows_the_sentence_the_layers_and_the_sources(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answer = {
        "sentence": "toxic.example est bloqué : nom toxique.",
        "opinions": [{"title": "Base toxique", "text": "listé", "decides": True}],
        "sources": [{"feed": "f", "source": "https://f.example/"}],
        "recent": [{"last": 1.7e9, "device": "aa", "text": "nom toxique", "packets": 3}],
    }
    assert main(["why", "toxic.example"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("toxic.example est bloqué") and "> Base toxique  listé" in out
    assert "source : f (https://f.example/)" in out and "×3" in out


STATUS: dict[str, Any] = {
    "uptime_s": 61.0,
    "base": {"serial": 7, "v4": 1, "v6": 2, "names": 3},
    "ports": [
        {"name": "eth0", "role": "lan", "up": True, "blocked": False},
        {"name": "eth1", "role": "wan", "up": False, "blocked": True},
    ],
    "gateways": [{"mac": "aa", "address": "192.0.2.1"}],
    "neighbours": [],
    "inbound": {"mode": 1, "learning_left_s": 86_400.0},
    "isolation": {"level": 2, "until": 1.7e9, "origin": "department"},
    "quarantine": [],
    "rules": [],
    "department": {"status": "partial", "version": 12},
    "outbox": {"rows": 3},
    "counters": {"blocked": 2},
    "journal": {"problem": "", "rows": 5},
    "problems": [],
}


def test_status(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answer = STATUS
    assert main(["filter", "status"]) == 0
    out = capsys.readouterr().out
    for words in (
        "1 min 1 s",
        "n° 7",
        "mairie, branché",
        "internet, débranché, bloqué",
        "encore 1 j",
        "niveau 2, à la demande du département",
        "ordres n° 12 en vigueur en partie, 3 messages en attente",
        "2 paquets",
    ):
        assert words in out
    daemon.answer = {**STATUS, "base": None, "problems": ["le journal n'est pas écrit"]}
    assert main(["filter", "status"]) == 1
    assert "! le journal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("5m", 300), ("2h", 7200), ("7j", 604_800), ("1D", 86_400)]
)
def test_durations(text: str, seconds: int) -> None:
    assert output.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1y", "9999999999s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        output.duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (3661, "1 h 1 min"), (90_000, "1 j 1 h")])
def test_spans(seconds: float, text: str) -> None:
    assert output.span(seconds) == text


def test_run_without_a_file_that_exists_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "run", "--config", "/nowhere/vigie.yaml"]) == 2
    assert "/nowhere/vigie.yaml" in capsys.readouterr().err
