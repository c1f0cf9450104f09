"""`vigie-department broker ...`."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from typing import Any

from vigie_department.broker.configure import configure, prepare
from vigie_department.broker.plan import broker_plan
from vigie_department.broker.watch import Watch
from vigie_department.config import Config
from vigie_department.signer.files import read_bounded
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds `broker` and its actions."""
    broker = subparsers.add_parser("broker", help=_("configuration et surveillance du serveur MQTT et du serveur web"))
    actions = broker.add_subparsers(dest="action", metavar=_("ACTION"), required=True)

    one = actions.add_parser("configure", help=_("écrire la configuration de mosquitto et de nginx"))
    one.set_defaults(run=_configure)

    one = actions.add_parser("watch", help=_("appliquer les révocations dès qu'elles sont publiées"))
    one.add_argument("--once", action="store_true", help=_("un seul passage, avant le démarrage de mosquitto"))
    one.set_defaults(run=_watch)

    one = actions.add_parser("status", help=_("révocations en vigueur dans le serveur MQTT"))
    one.add_argument("--json", action="store_true", help=_("pour les programmes"))
    one.set_defaults(run=_status)


def _configure(args: argparse.Namespace, config: Config) -> int:
    for path in configure(config):
        print(path)
    return 0


def _watch(args: argparse.Namespace, config: Config) -> int:
    plan = broker_plan(config)
    if args.once:
        prepare(plan)
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Watch(plan).run(stop)
    return 0


def _status(args: argparse.Namespace, config: Config) -> int:
    text = read_bounded(broker_plan(config).status, 1 << 20).decode()
    if args.json:
        print(text)
        return 0
    found = json.loads(text)
    print(_("{n} boîtiers refusés").format(n=found["denied"]))
    for problem in found["problems"]:
        print(problem["text"])
    return 1 if found["problems"] else 0
