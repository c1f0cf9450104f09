"""The board's configuration: what is wrong is named, what is missing is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.micropython import GUARDIAN, Interpreter

BOARDS = sorted((GUARDIAN / "boards").glob("*.json"))


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_board_is_accepted_and_names_itself(mp: Interpreter, board: Path) -> None:
    config, errors = mp.call("config", "check", json.loads(board.read_text()), board.name)
    assert errors == []
    assert config["board"] == board.stem


@pytest.mark.parametrize("value", [None, 7, "x", [], True])
def test_a_file_that_is_no_configuration_gives_the_defaults(mp: Interpreter, value: object) -> None:
    config, errors = mp.call("config", "check", value, "/etc/vigie/guardian.json")
    assert config == mp.call("config", "defaults")
    assert len(errors) == 1 and "/etc/vigie/guardian.json" in errors[0]


BAD: list[tuple[str, Any]] = [
    ("watchdog", "dev/watchdog0"), ("watchdog", ""), ("watchdog", 0), ("watchdog_s", 9), ("watchdog_s", 121),
    ("watchdog_s", True), ("watchdog_s", "30"), ("watchdog_s", 30.5), ("bridge", "a/b"), ("bridge", ""), ("leds", {}),
    ("leds", [7]), ("leds", [{"lamps": [], "colours": {"red": "x"}}]), ("leds", [{"lamps": ["power"], "colours": {}}]),
    ("leds", [{"lamps": ["brightness"], "colours": {"red": "x"}}]),
    ("leds", [{"lamps": ["power"], "colours": {"blue": "x"}}]),
    ("leds", [{"lamps": ["power"], "colours": {"red": "../../x"}}]), ("leds", [{"lamps": ["power"]}]),
    ("button", 5), ("button", {}), ("button", {"key": 0}), ("button", {"key": 768}), ("button", {"key": "F12"}),
    ("relay", {"led": "x"}), ("relay", {"led": "", "inline": 1}), ("relay", {"led": "x", "inline": 2}),
    ("quiet_max_s", 1), ("quiet_max_s", 61), ("tick_ms", 0), ("tick_ms", 2001), ("resets", 0), ("state", "data"),
    ("pm_rsts", "x"), ("no-such-key", 1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_value_is_named_and_replaced(mp: Interpreter, key: str, value: object) -> None:
    config, errors = mp.call(
        "config", "check", {key: value, "resets": 5} if key != "resets" else {key: value}, "x.json"
    )
    assert len(errors) == 1 and errors[0].startswith(f"x.json: {key} ")
    defaults = mp.call("config", "defaults")
    assert config == defaults | ({"resets": 5} if key != "resets" else {})


def test_times_of_the_button_in_the_wrong_order(mp: Interpreter) -> None:
    config, errors = mp.call("config", "check", {"short_ms": 4000, "reset_ms": 3000}, "x")
    assert (config["short_ms"], config["reset_ms"], config["stuck_ms"]) == (2000, 10000, 20000)
    assert len(errors) == 1 and "short_ms" in errors[0]


def test_a_restart_fits_into_the_watchdogs_time(mp: Interpreter) -> None:
    """Of every board, and of the unit: what systemd needs to notice and to start again, twice, is less than the
    hardware gives; and so is the time between two meals."""
    unit = (Path(GUARDIAN).parents[1] / "package/vigie/vigie-guardian.service").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in unit if "=" in line and not line.startswith("#"))
    notice_s = int(settings["WatchdogSec"]) + int(settings["TimeoutAbortSec"])
    assert settings["RestartSec"] == "500ms"
    assert settings["StartLimitIntervalSec"] == "0"
    for board in BOARDS:
        config, _ = mp.call("config", "check", json.loads(board.read_text()), board.name)
        assert 2 * (notice_s + 1) < config["watchdog_s"]
        assert int(settings["TimeoutStartSec"]) + int(settings["TimeoutAbortSec"]) + 1 < config["watchdog_s"]
        assert config["tick_ms"] * 10 <= config["watchdog_s"] * 1000
        assert config["tick_ms"] * 5 <= int(settings["WatchdogSec"]) * 1000


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("0-1,4", [0, 1, 4]),
        (None, [0]),
        ("", [0]),
        ("x", [0]),
        ("0-", [0]),
        (",", [0]),
    ],
)
def test_the_kernels_list_of_processors(said: str | None, numbers: list[int], mp: Interpreter) -> None:
    assert mp.call("processors", "online", said) == numbers
