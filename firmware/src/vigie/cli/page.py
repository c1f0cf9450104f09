"""`vigie page run` and `vigie address run|show`."""

from __future__ import annotations

import argparse

from vigie.cli.enrol import common
from vigie.i18n import _


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `page` and `address`."""
    page = subparsers.add_parser("page", help=_("la page de la mairie"))
    actions = page.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le service (reste au premier plan)"), parents=[common()])
    run.set_defaults(run=_page)
    address = subparsers.add_parser("address", help=_("l'adresse du boîtier sur le réseau"))
    actions = address.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le service (reste au premier plan)"), parents=[common()])
    run.set_defaults(run=_address)
    return page


def _page(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.page.server import run

    return run(load(args.config))


def _address(args: argparse.Namespace) -> int:
    import logging

    from vigie.host.address_service import Service
    from vigie.host.boxconfig import load

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return Service(load(args.config)).run()
