"""The `vigie-ota` command: from an image to a signed release in the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import cast

from vigie.contract.errors import ContractError
from vigie_department import cli as department
from vigie_department.errors import DepartmentError
from vigie_ota.bundle import commands as bundle
from vigie_ota.errors import OtaError
from vigie_ota.publish import commands as publish


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused or failed, 2 the question makes no sense."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["rollout"]:
        return department.main(words)  # waves are the department's: its configuration, database and operators
    args = parser().parse_args(words)
    try:
        return cast(int, args.run(args))
    except KeyboardInterrupt:
        return 130
    except (OtaError, DepartmentError, ContractError) as e:
        print(f"vigie-ota: {e}", file=sys.stderr)
        return int(getattr(e, "exit_code", 1))


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="vigie-ota", description="Makes, signs and publishes firmware releases.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    bundle.register(commands)
    publish.register(commands)
    commands.add_parser("rollout", help="waves, thresholds, automatic stop: `vigie-department rollout`", add_help=False)
    return top


if __name__ == "__main__":
    sys.exit(main())
