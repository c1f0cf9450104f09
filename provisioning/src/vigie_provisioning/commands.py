"""What the commands share: errors become one line and an exit code, results a table or JSON."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vigie.contract.errors import ContractError
from vigie_provisioning.errors import ProvisioningError

Command = Callable[[argparse.Namespace], int]


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parses and runs `args.run`. An error of ours is one line on stderr, without a traceback."""
    args = parser.parse_args(argv)
    try:
        command: Command = args.run
        return command(args)
    except ProvisioningError as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return e.exit_code
    except ContractError as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def show(args: argparse.Namespace, result: Any, text: Callable[[Any], str]) -> int:
    """Prints a result: JSON with --json, else what `text` makes of it."""
    print(json.dumps(result, ensure_ascii=False) if args.json else text(result))
    return 0


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows under their names, as wide as needed."""
    cells = [[name.replace("_", " ") for name in columns]]
    cells += [[str(row.get(name) if row.get(name) is not None else "-") for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def moment(unix: int | None) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if unix else "-"


def who() -> str:
    """The person at the keyboard, for the log: the one before sudo where there is one."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def secret(variable: str, prompt: str) -> str | None:
    """A passphrase from an environment variable, or asked at the terminal; None when there is neither."""
    given = os.environ.get(variable)
    if given is not None:
        return given or None
    if not sys.stdin.isatty():
        return None
    return getpass.getpass(f"{prompt} (empty for none): ") or None
