"""The `vigie-department` command: each room of the department adds its own subcommands.

A room is a module with `register(subparsers)`; each of its parsers sets `run` to a function
`(arguments, Config) -> exit code`, or sets `needs_config` to False and gets the path of a file that may not exist yet.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from vigie_department import config as configuration
from vigie_department import texts
from vigie_department.errors import DepartmentError
from vigie_department.texts import _

ROOMS: Final = ("ops", "console", "base", "rollout", "signer", "broker")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused or failed, 2 the question makes no sense."""
    words = list(sys.argv[1:] if argv is None else argv)
    # taken from anywhere on the line: before or after the subcommand is the same to the one who types
    places, rest = _places().parse_known_args(words)
    if places.lang:
        os.environ["VIGIE_LANG"] = places.lang
    texts.use(texts.language(os.environ))
    args = parser().parse_args(rest)
    args.config, args.root = places.config, places.root
    try:
        if not getattr(args, "needs_config", True):
            return cast(int, args.run(args))
        loaded = configuration.load(places.config, root=places.root)
        if not places.lang:
            texts.use(texts.language(os.environ, default=loaded.language))
        # Django's settings are built from the same file, by whoever needs them
        os.environ[configuration.ENVIRONMENT] = str(loaded.path)
        return cast(int, args.run(args, loaded))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if not _expected(error):
            raise
        print(f"vigie-department: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))


def _expected(error: Exception) -> bool:
    """True for an error of one of the trees that this program speaks for: shown as a sentence, not as a traceback."""
    from vigie.contract.errors import ContractError
    from vigie_provisioning.errors import ProvisioningError

    return isinstance(error, (DepartmentError, ContractError, ProvisioningError))


def _places() -> argparse.ArgumentParser:
    places = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    places.add_argument("--config", type=Path)
    places.add_argument("--root", type=Path)
    places.add_argument("--lang", choices=("fr", "en"))
    return places


def parser() -> argparse.ArgumentParser:
    """The whole command line, with the subcommands of every room."""
    top = argparse.ArgumentParser(
        prog="vigie-department",
        description=_("Le côté département de Vigie : parc, alertes, base toxique, ordres."),
        allow_abbrev=False,
    )
    top.add_argument("--config", type=Path, metavar=_("FICHIER"), help=_("configuration TOML"))
    top.add_argument("--root", type=Path, metavar=_("DOSSIER"), help=_("dossier qui contient tout (essais, labo)"))
    top.add_argument("--lang", choices=("fr", "en"), help=_("langue des messages"))
    subparsers = top.add_subparsers(dest="command", metavar=_("COMMANDE"), required=True)
    for room in ROOMS:
        _register(room)(subparsers)
    return top


def _register(room: str) -> Callable[[Any], None]:
    return cast(Callable[[Any], None], importlib.import_module(f"vigie_department.{room}.commands").register)


if __name__ == "__main__":
    sys.exit(main())
