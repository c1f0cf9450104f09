"""`python -m lab`: bring the town hall up and watch it; `--check`: run every expectation unattended."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab import base, plan, scenario, view
from lab.box import make_plain_bridge
from lab.errors import LabError
from lab.join import join
from lab.office import Office
from lab.scenario import Outcome
from lab.topology import Topology


@contextmanager
def open_office(console: Console, *, plain: bool, offload: bool) -> Iterator[Office]:
    """The lab, up and ready, with a plain bridge or the product in the box."""
    times: dict[str, float] = {}
    if plain:
        bases, indicators = None, plan.PLAIN_INDICATORS
    else:
        start = time.monotonic()
        bases = base.compile_bases(lambda text: console.print(text, style="dim", markup=False))
        times["base_compile_s"] = time.monotonic() - start
        indicators = base.pick(bases)
    start = time.monotonic()
    with Topology(indicators, offload=offload, department=bases.feeds if bases else None) as lab:
        office = Office(lab, bases=bases, times=times)
        if bases is None:
            make_plain_bridge(lab)
        else:
            join(office, bases, lambda text: console.print(text, style="dim", markup=False))
        lab.wait_until_ready()
        if office.product is not None:
            office.product.wait_roles()
            office.product.wait_holding()
        times["setup_s"] = time.monotonic() - start
        try:
            yield office
        finally:
            if office.central is not None:
                office.central.capture.stop()


def check(console: Console, office: Office, only: list[str], evidence_to: Path | None) -> int:
    """Run, print the table, then the JSON line. Returns the exit code."""

    def tell(outcome: Outcome) -> None:
        mark = "[green]tenu[/]" if outcome.held else "[bold red]MANQUÉ[/]"
        console.print(f"{mark}  {escape(outcome.expectation.sentence)}  [dim]{outcome.seconds:.1f} s[/]")
        if not outcome.held:
            console.print(outcome.evidence, style="red", markup=False, highlight=False)

    outcomes = scenario.run(office, scenario.selected(only, office.product is None), tell)
    table = Table(title="Attentes du laboratoire", show_lines=False)
    for title in ("", "attente", "phrase", "durée"):
        table.add_column(title)
    for outcome in outcomes:
        mark = "[green]✔[/]" if outcome.held else "[red]✘[/]"
        table.add_row(mark, outcome.expectation.name, escape(outcome.expectation.sentence), f"{outcome.seconds:.1f} s")
    console.print(table)
    if evidence_to is not None:
        evidence_to.write_text(
            "\n\n".join(f"## {outcome.expectation.name}\n{outcome.evidence}" for outcome in outcomes) + "\n"
        )
    failed = [outcome.expectation.name for outcome in outcomes if not outcome.held]
    times = {key: round(value, 2) for key, value in sorted(office.times.items())}
    print(json.dumps({"lab": {"expectations": len(outcomes), "failed": failed, "times": times}}), flush=True)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--check", action="store_true", help="run the expectations, print a table and a JSON line")
    parser.add_argument(
        "--plain", action="store_true", help="a plain bridge instead of the product: proves the lab itself"
    )
    parser.add_argument("--no-offload", action="store_true", help="checksum and segmentation offload off on every link")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this expectation (repeatable)"
    )
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="write what each expectation saw")
    parser.add_argument("--seconds", type=float, default=0.0, help="end the live view by itself after so long")
    arguments = parser.parse_args()
    console = Console(stderr=False, highlight=False)
    try:
        scenario.selected(arguments.only, arguments.plain)
        with open_office(console, plain=arguments.plain, offload=not arguments.no_offload) as office:
            if arguments.check:
                return check(console, office, arguments.only, arguments.evidence)
            console.print(view.entering(office), markup=False)
            return view.show(console, office, arguments.seconds)
    except LabError as error:
        console.print(f"lab: {error}", style="bold red", markup=False)
        return 2
    except AssertionError as failure:  # the box did not come up: nothing could be tried
        console.print(str(failure), style="red", markup=False)
        if arguments.check:
            print(json.dumps({"lab": {"expectations": 1, "failed": ["setup"], "times": {}}}), flush=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
