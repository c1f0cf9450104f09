"""`python -m vm image|run|check`: build the virtual board, live in the lab with it, or judge it unattended."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.errors import LabError
from vm import expectations, live
from vm.errors import VmError
from vm.expectations import Outcome
from vm.image import image
from vm.office import VmOffice, open_office


def line(office: VmOffice | None, failed: list[str]) -> str:
    """The JSON line that ends `make vm-check`."""
    times = office.times if office is not None else {}
    facts = office.facts if office is not None else {}
    figures = {name: round(times[name], 2) if name in times else None for name in FIGURES}
    extra = {name: round(value, 2) for name, value in sorted(times.items()) if name not in figures}
    return json.dumps(
        {
            "vm": {
                "failed": failed,
                **{name: figures[name] for name in FIGURES[:-1]},
                "forward_before_python": bool(facts.get("before_python", False)),
                "unfiltered_ms": figures["unfiltered_ms"],
                "times": extra,
            }
        }
    )


FIGURES = ("forward_s", "filter_s", "enrolled_s", "unfiltered_ms")


def check(console: Console, evidence_to: Path | None) -> int:
    """Run every expectation, print a table and the JSON line. Exit 0 only if all hold."""

    def tell(outcome: Outcome) -> None:
        mark = "[green]tenu[/]" if outcome.held else "[bold red]MANQUÉ[/]"
        console.print(f"{mark}  {escape(outcome.expectation.sentence)}  [dim]{outcome.seconds:.1f} s[/]")
        if not outcome.held:
            console.print(outcome.evidence, style="red", markup=False, highlight=False)

    office: VmOffice | None = None
    try:
        with open_office(lambda text: console.print(text, style="dim", markup=False)) as office:
            outcomes = expectations.run(office, tell)
            log = office.machine.console
    except AssertionError as failure:
        console.print(str(failure), style="red", markup=False)
        print(line(office, ["setup"]), flush=True)
        return 1
    table = Table(title="Attentes de la carte virtuelle")
    for title in ("", "attente", "phrase", "durée"):
        table.add_column(title)
    for outcome in outcomes:
        mark = "[green]✔[/]" if outcome.held else "[red]✘[/]"
        table.add_row(mark, outcome.expectation.name, escape(outcome.expectation.sentence), f"{outcome.seconds:.1f} s")
    console.print(table)
    if evidence_to is not None:
        parts = [f"## {outcome.expectation.name}\n{outcome.evidence}" for outcome in outcomes]
        evidence_to.write_text("\n\n".join([*parts, f"## console\n{log}"]) + "\n")
    held = {outcome.expectation.name for outcome in outcomes if outcome.held}
    failed = [expectation.name for expectation in expectations.EXPECTATIONS if expectation.name not in held]
    print(line(office, failed), flush=True)
    return 1 if failed else 0


def run(console: Console, *, department: bool, shell: bool) -> int:
    """The board in the lab for a person."""

    def tell(text: str) -> None:
        console.print(text, style="dim", markup=False)

    with open_office(tell, department=department, terminal=not shell) as office:
        if shell:
            live.converse(office, console)
        else:
            live.watch(office, console, live.milestones(department=department))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vm", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("image", help="build the image, or find that it is built; prints its folder")
    run_board = actions.add_parser("run", help="the board in the lab, console in this terminal")
    run_board.add_argument("--no-department", action="store_true", help="town hall and internet only: starts sooner")
    run_board.add_argument("--shell", action="store_true", help="root's shell of the board instead of its console")
    judge = actions.add_parser("check", help="every expectation, a table and one JSON line")
    judge.add_argument("--evidence", type=Path, metavar="FILE", help="write what each expectation saw")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    try:
        if arguments.action == "image":
            print(image(lambda text: console.print(text, style="dim", markup=False)))
            return 0
        if arguments.action == "run":
            return run(console, department=not arguments.no_department, shell=arguments.shell)
        return check(console, arguments.evidence)
    except (VmError, LabError) as error:
        console.print(f"vm: {error}", style="bold red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
