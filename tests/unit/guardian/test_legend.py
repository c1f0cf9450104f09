"""The legend: one file for the lamps, the printed guide and enrolment's codes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.support.micropython import GUARDIAN, Interpreter
from vigie.enrol.codes import LAMPS, Code

LEGEND: dict[str, Any] = json.loads((GUARDIAN / "legend.json").read_text())
ROWS = {(lamp["lamp"], row["state"]): row for lamp in LEGEND["lamps"] for row in lamp["rows"]}


@pytest.mark.parametrize("code", Code)
def test_enrolments_codes_look_as_enrolment_says(code: Code) -> None:
    row = ROWS[("line", code.value)]
    assert (row["colour"], row["flashes"]) == (LAMPS[code].colour, LAMPS[code].flashes)


def test_on_one_lamp_no_two_rows_look_the_same() -> None:
    for lamp in LEGEND["lamps"]:
        looks = [(row["colour"], row["flashes"]) for row in lamp["rows"]]
        assert len(looks) == len(set(looks)), lamp["lamp"]


def test_every_row_says_what_to_do_in_both_languages() -> None:
    for (lamp, state), row in ROWS.items():
        for language in ("fr", "en"):
            assert row[language].strip() == row[language] != "" and row[language].endswith("."), (lamp, state)
            assert len(row[language]) < 160, (lamp, state)
    assert [lamp["lamp"] for lamp in LEGEND["lamps"]] == ["power", "line", "protection", "loop"]


def test_every_state_that_the_tables_give_has_its_row(mp: Interpreter) -> None:
    """All that the fault table can say, from every mixture of the inputs that matter to it."""
    choices: dict[str, tuple[Any, ...]] = {
        "button": ("", "held", "confirmed"), "quiet_s": (0, 99), "config_ok": (True, False), "watchdog": (True, False),
        "disk": ("ok", "slow"), "beat": ("unknown", "alive", "lost"), "mode": ("normal", "plain", "trial"),
    }  # fmt: skip
    given = set()
    for values in itertools.product(*choices.values()):
        see = dict(zip(choices, values, strict=True)) | {"evidence": "bridge", "base": 1}
        given |= set(mp.call("core", "lamps", see, {"$": "rows"}).items())
    for see in ({"update": "installing", "beat": "alive"}, {"bridge": False}, {"links": {"a": False}}, {"enrol": "zz"},
                {"beat": "alive", "attached": False}, {"beat": "alive", "loop": True}):  # fmt: skip
        given |= set(mp.call("core", "lamps", see, {"$": "rows"}).items())
    unseen = set(ROWS) - given - {("line", code.value) for code in Code}
    assert given - set(ROWS) == set()
    assert unseen == set(), "rows of the legend that nothing shows"


def pattern(mp: Interpreter, colour: str, flashes: int, alone: bool) -> list[tuple[str, int]]:
    """(colour, how long in ms) of one whole turn."""
    turn: list[tuple[str, int]] = []
    now = 0
    for _ in range(2 * flashes + 1 if flashes else 2):
        shown, left = mp.steps("pattern", "Legend", [], ("light", [colour, flashes, now, alone]))[0]
        if left is None:
            return [(shown, -1)]
        turn.append((shown, left))
        now += left
    return turn


def test_a_steady_lamp_and_flashes(mp: Interpreter) -> None:
    assert pattern(mp, "green", 0, False) == [("green", -1)]
    assert pattern(mp, "off", 0, False) == [("off", -1)]
    assert pattern(mp, "amber", 2, False) == [
        ("amber", 500), ("off", 400), ("amber", 500), ("off", 400), ("off", 1000),
    ]  # fmt: skip


def test_a_lamp_of_one_colour_tells_the_colours_apart_by_rhythm(mp: Interpreter) -> None:
    looks = {(c, n): tuple(pattern(mp, c, n, True)) for c in ("green", "amber", "red") for n in range(10)}
    rhythms = {key: tuple((shown == "off", ms) for shown, ms in turn) for key, turn in looks.items()}
    assert len(set(rhythms.values())) == len(rhythms)


@pytest.mark.parametrize(
    ("shown", "lamps", "look"),
    [
        ({"line": "member", "protection": "ok", "loop": "none"}, ["loop", "protection", "line"], ["green", 0]),
        ({"line": "starting", "protection": "ok", "loop": "none"}, ["loop", "protection", "line"], ["green", 1]),
        ({"line": "no-dns", "protection": "ok", "loop": "none"}, ["loop", "protection", "line"], ["amber", 3]),
        ({"line": "no-dns", "protection": "silent", "loop": "none"}, ["loop", "protection", "line"], ["amber", 1]),
        ({"line": "unknown", "protection": "silent", "loop": "none"}, ["loop", "protection", "line"], ["red", 1]),
        ({"line": "clone", "protection": "plain", "loop": "loop"}, ["loop", "protection", "line"], ["red", 1]),
        ({"power": "held", "line": "clone", "protection": "plain", "loop": "loop"},
         ["power", "loop", "protection", "line"], ["amber", 0]),
        ({}, ["power"], ["off", 0]),
        ({"power": "no-such-row"}, ["power"], ["amber", 9]),
    ],
)  # fmt: skip
def test_lamps_that_share_a_light_show_the_worst(
    mp: Interpreter, shown: dict[str, str], lamps: list[str], look: list[Any]
) -> None:
    assert mp.steps("pattern", "Legend", [], ("worst", [shown, lamps]))[0] == look


def test_the_lamp_test_shows_every_colour(mp: Interpreter) -> None:
    assert {mp.call("pattern", "test_light", now)[0] for now in range(0, 2000, 100)} == {"red", "amber", "green", "off"}
