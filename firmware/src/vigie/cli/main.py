"""Entry point of `vigie`. Only the module of the command asked for is imported: `vigie --help` starts at once."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from vigie import __version__
from vigie.cli import output
from vigie.errors import VigieError
from vigie.i18n import _, use

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


def commands() -> dict[str, tuple[str, str]]:
    """Command -> (module of vigie.cli that holds it, what it does), in the order of the help."""
    return {
        "filter": ("filter", _("lancer, arrêter, voir le filtrage")),
        "why": ("why", _("pourquoi une adresse ou un nom est bloqué, ou ne l'est pas")),
        "top": ("top", _("ce qui est le plus bloqué")),
        "watch": ("watch", _("ce qui est bloqué, à mesure")),
        "allow": ("local", _("laisser passer une adresse ou un nom, pour un temps")),
        "block": ("local", _("bloquer une adresse ou un nom, pour un temps")),
        "observe": ("local", _("signaler une adresse ou un nom sans bloquer, pour un temps")),
        "rules": ("local", _("les décisions locales en vigueur")),
        "quarantine": ("local", _("couper un appareil du réseau, ou le rétablir")),
        "isolate": ("local", _("isoler la mairie : 0 normal, 1 vigilance, 2 services essentiels, 3 coupure")),
        "learned": ("local", _("ports ouverts appris pendant l'apprentissage")),
        "self-test": ("selftest", _("vérifier que le filtrage bloque vraiment")),
        "base": ("base", _("compiler, comparer, appliquer une base toxique")),
        "replay": ("replay", _("rejouer une capture à travers le filtrage")),
        "enrol": ("enrol", _("rattacher le boîtier au département")),
        "link": ("link", _("la liaison avec le département")),
        "update": ("update", _("prendre ce que le département publie")),
        "page": ("page", _("la page de la mairie")),
        "address": ("page", _("l'adresse du boîtier sur le réseau")),
        "factory": ("factory", _("mise en service à l'atelier, par la console série")),
    }


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser, with the real parser of the command `wanted` and one-line entries for the others."""
    parser = argparse.ArgumentParser(
        prog="vigie",
        description=_("Vigie : le boîtier qui protège le réseau de la mairie."),
        epilog=_("« vigie COMMANDE --help » détaille une commande."),
        parents=[output.common()],
    )
    parser.add_argument("--version", action="version", version=f"vigie {__version__}")
    parser.add_argument("--lang", metavar="fr|en", help=_("langue des messages"))
    subparsers = parser.add_subparsers(dest="command", metavar=_("COMMANDE"), title=_("commandes"), required=True)
    loaded: set[str] = set()
    known = commands()
    for name, (module, text) in known.items():
        if wanted in known and module == known[wanted][0]:
            if module not in loaded:
                loaded.add(module)
                importlib.import_module(f"vigie.cli.{module}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code: 0 done, 1 failed, 2 asked wrongly."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _language(arguments)
    as_json = "--json" in arguments
    try:
        args = build_parser(_command(arguments)).parse_args(arguments)
        output.fill_common(args)
        code: int = args.run(args)
        return code
    except VigieError as e:
        return output.report_error(e, as_json)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: no traceback now, none at exit when buffers are flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _command(arguments: Sequence[str]) -> str | None:
    """The first word that is neither an option nor an option's value."""
    words = iter(arguments)
    for word in words:
        if word in ("--socket", "--lang"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _language(arguments: Sequence[str]) -> None:
    """Help texts are translated while the parser is built: the option has to be read before."""
    for i, word in enumerate(arguments):
        if word == "--lang" and i + 1 < len(arguments):
            use(arguments[i + 1])
        elif word.startswith("--lang="):
            use(word.partition("=")[2])
