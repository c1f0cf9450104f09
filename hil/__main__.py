"""`make hil PORT=/dev/ttyUSB0 [RELAY=...]`: judges a real board over its serial console."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hil import judge, probes, relay
from hil.judge import Judgement, Probes, Seen, Verdict
from vigie.contract.bench import Hello, Question, State
from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.factory.board import wait_for
from vigie_provisioning.factory.line import BoardReset, Line, Timing

MARKS: Final = {
    Verdict.HELD: "[green]tenu[/]",
    Verdict.FAILED: "[bold red]MANQUÉ[/]",
    Verdict.NOT_JUDGED: "[yellow]non jugé[/]",
}
_ANSWERS: Final = (State.BLANK, State.KEYED, State.REPORT)


class Silent(ProvisioningError):
    """No board answers."""


def look(line: Line, boot_s: float, not_boot: str = "") -> tuple[Hello, dict[str, Any]]:
    """The board and its report, of another start than `not_boot`. Silent, LineLost."""
    while True:
        hello = wait_for(line, boot_s, lambda h: h.boot != not_boot and h.state in _ANSWERS)
        if hello is None:
            reason = f"no board answers within {boot_s:.0f} s"
            remedy = "a released box answers only in the factory, a development image always"
            raise Silent(f"{line.port}: {reason}; {remedy} (docs/factory.md)")
        with contextlib.suppress(BoardReset):
            return line.greet(hello), line.ask(Question.REPORT)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the command line says, understood. reach, toxic: addresses behind the board; boot_s: until it must have
    spoken; reset: whether it is started again, by `power` or over the line."""

    power: relay.Relay | None
    reach: tuple[str, int] | None
    toxic: tuple[str, int] | None
    boot_s: float
    reset: bool


def understood(args: argparse.Namespace, tell: Callable[[str], None]) -> Setup:
    """RelayError or ProbeError names what it does not understand."""
    power: relay.Relay | None = None
    if args.relay:
        power = relay.Person(tell) if args.relay == "hand" else relay.parse(args.relay, args.off)
    reach, toxic = (probes.parse(text) if text else None for text in (args.reach, args.toxic))
    return Setup(power, reach, toxic, args.boot, not args.no_reset)


def run(line: Line, setup: Setup, tell: Callable[[str], None]) -> Seen:
    """Looks, starts the board again, looks again. Silent, LineLost, RelayError."""
    hello, first = look(line, setup.boot_s)
    tell(f"carte {hello.chip}, version {hello.version or '?'}, {hello.variant or '?'}, {hello.state.value}")
    factory = hello.state is not State.REPORT
    reached = probes.connects(setup.reach) if setup.reach else None
    refused = not probes.connects(setup.toxic) if setup.toxic else None
    watch = probes.Leaks(setup.toxic) if setup.toxic else None
    by, again = "", {}
    if setup.reset:
        with watch or contextlib.nullcontext():
            if setup.power is not None:
                by = f"a power cut by {setup.power.name}"
                setup.power.cycle()
            else:
                by = "a restart over the line"
                line.ask(Question.RESTART)
            with contextlib.suppress(Silent):
                again = look(line, setup.boot_s, hello.boot)[1]
    leaks = watch.count if watch is not None and by else None
    return Seen(first, again, factory, by, Probes(reached, refused, leaks))


def show(console: Console, judgements: Sequence[Judgement]) -> None:
    """A table."""
    table = Table(title="Attentes de la carte réelle")
    for title in ("", "attente", "phrase", "vu"):
        table.add_column(title, overflow="fold")
    for found in judgements:
        table.add_row(MARKS[found.verdict], found.name, escape(found.sentence), escape(found.evidence))
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 nothing failed, 1 something did, 2 asked wrongly or no such port, 130 stopped by hand."""
    parser = argparse.ArgumentParser(prog="hil", description=__doc__)
    parser.add_argument("port", help="serial adapter of the board")
    parser.add_argument("--relay", default="", help="serial:PORT[:CHANNEL], or a command with {state}; `hand` asks you")
    parser.add_argument("--reach", default="", help="ADDRESS:PORT that must be reached through the board")
    parser.add_argument("--toxic", default="", help="ADDRESS:PORT that the board must refuse")
    parser.add_argument("--boot", type=float, default=180.0, help="seconds until a board must have spoken")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds without an answer until the line is lost")
    parser.add_argument("--off", type=float, default=relay.OFF_S, help="seconds without power")
    parser.add_argument("--no-reset", action="store_true", help="do not start the board again")
    args = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False)

    def tell(text: str) -> None:
        console.print(text, markup=False)

    def refuse(error: Exception) -> None:
        console.print(f"hil: {error}", style="red", markup=False)

    line = Line(args.port, Timing(patience_s=args.patience), lambda lines: None)
    seen = Seen()
    try:
        try:
            setup = understood(args, tell)
            line.open()
        except (ProvisioningError, relay.RelayError, probes.ProbeError) as e:
            refuse(e)  # nothing was asked of any board: nothing is judged
            return 2
        seen = run(line, setup, tell)
    except (ProvisioningError, relay.RelayError) as e:
        refuse(e)
    except KeyboardInterrupt:
        return 130
    finally:
        line.close()
    judgements = judge.judge(seen)
    show(console, judgements)
    print(json.dumps(judge.line(judgements, seen), ensure_ascii=False), flush=True)
    return 1 if any(found.verdict is Verdict.FAILED for found in judgements) else 0


if __name__ == "__main__":
    sys.exit(main())
