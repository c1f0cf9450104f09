"""`vigie factory serial`: the loop between the line, the answers and the board."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie.contract.bench import Hello, Question, State
from vigie.contract.benchline import Side, encode
from vigie.contract.identity import MODEL
from vigie.factory import facts
from vigie.factory.answers import Answers
from vigie.factory.checks import WATCHDOG_S, Bench
from vigie.factory.keeping import Keeping
from vigie.factory.machine import Machine
from vigie.factory.port import Port
from vigie.host.boxconfig import DEFAULT_MODEL
from vigie.host.systemd import notify

log = logging.getLogger("vigie.factory")
ANNOUNCED: Final = 3
_IDLE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Parts:
    """The board's LEDs in their order, and its button's key code."""

    leds: tuple[str, ...] = ()
    button: int | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and times of the program. data: on the large partition; wait: between two looks at the button or two
    LEDs; watchdog_s: until an unfed watchdog bites."""

    identity: Path = Path("/identity")
    data: Path = Path("/data")
    filter_socket: Path = Path("/run/vigie/filter.sock")
    model: str = DEFAULT_MODEL
    wait: Callable[[float], None] = time.sleep
    watchdog_s: int = WATCHDOG_S


def serve(port: Path, machine: Machine, places: Places, parts: Parts, *, report_only: bool = False) -> Question:
    """Answers until the board is to leave (`leave`, `restart`); which of the two. HostError when the line is gone."""
    keeping = Keeping(places.identity)
    bench = Bench(machine, keeping, places.data, parts.leds, places.wait, watchdog_s=places.watchdog_s)
    answers = Answers(
        bench,
        lambda: facts.collect(machine, places.filter_socket),
        lambda state: introduce(machine, keeping, places.model, state),
        report_only=report_only,
    )
    with Port(port) as line:
        notify("READY=1")
        log.info("answers at %s, the board is %s", port, answers.hello().state)
        while True:
            if not report_only:
                machine.feed_watchdog()
            data = line.read(0.0 if answers.busy else _IDLE_S)
            out = answers.receive(data, time.monotonic()) if data else b""
            out += answers.turn(time.monotonic())
            if out:
                line.write(out)
            notify("WATCHDOG=1")
            if answers.leaving is not None:
                line.drain()
                return answers.leaving


def announce(port: Path, machine: Machine, places: Places) -> None:
    """A sealed board says who it is, three times, and hears nothing. HostError."""
    keeping = Keeping(places.identity)
    hello = introduce(machine, keeping, places.model, State.IN_SERVICE)
    with Port(port) as line:
        for number in range(ANNOUNCED):
            if number:
                time.sleep(1.0)
            line.write(encode(Side.BOARD, number, {"hello": hello.to_dict()}))
        line.drain()


def introduce(machine: Machine, keeping: Keeping, model: str, state: State) -> Hello:
    """The hello of a board."""
    release = facts.os_release(machine)
    label = keeping.label()
    boot = machine.boot_id()
    return Hello(
        boot=boot,
        chip=machine.chip(),
        model=model if MODEL.fullmatch(model) else DEFAULT_MODEL,
        version=release.get("VERSION_ID", "")[:64],
        variant=release.get("VARIANT_ID", "")[:32],
        state=state,
        box=keeping.box(),
        serial=label.serial if label is not None else "",
        reset=keeping.reset(boot, machine.power_on()),
    )


def read_parts(machine: Machine) -> Parts:
    """LEDs and button as the guardian's configuration of this board names them; none where it says nothing."""
    text = machine.read("etc/vigie/guardian.json")
    try:
        data: Any = json.loads(text) if text else {}
        leds = tuple(str(name) for lamp in data.get("leds", []) for name in lamp["colours"].values())
        found = data.get("button")
        button = int(found["key"]) if found else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        log.warning("etc/vigie/guardian.json: %s: LEDs and button are unknown", e)
        return Parts()
    return Parts(tuple(dict.fromkeys(leds)), button)
