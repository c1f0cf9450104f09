"""`vigie update base run|once|status`, and for the firmware `vigie update run|status|postpone|resume`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vigie.cli import output
from vigie.cli.enrol import common
from vigie.i18n import _

if TYPE_CHECKING:
    from vigie.update.base import BaseUpdate
    from vigie.update.store import Status


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `update` and what it does."""
    parser = subparsers.add_parser("update", help=_("prendre ce que le département publie"))
    what = parser.add_subparsers(dest="what", metavar=_("QUOI"), required=True)
    base = what.add_parser("base", help=_("la base toxique"))
    actions = base.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    run = actions.add_parser("run", help=_("lancer le service (reste au premier plan)"), parents=[common()])
    run.set_defaults(run=_run)
    once = actions.add_parser("once", help=_("regarder une fois, et prendre ce qui est nouveau"), parents=[common()])
    once.set_defaults(run=_once)
    status = actions.add_parser("status", help=_("où en sont les mises à jour, et pourquoi"), parents=[common()])
    status.set_defaults(run=_status)
    run = what.add_parser("run", help=_("lancer le service du système du boîtier"), parents=[common()])
    run.set_defaults(run=_firmware_run)
    status = what.add_parser("status", help=_("où en est le système du boîtier, et pourquoi"), parents=[common()])
    status.set_defaults(run=_firmware_status)
    postpone = what.add_parser("postpone", help=_("reporter la mise à jour du système"), parents=[common()])
    postpone.add_argument("--hours", type=_hours, default=24, metavar=_("HEURES"), help=_("de 1 à 168 (24)"))
    postpone.set_defaults(run=_postpone)
    resume = what.add_parser("resume", help=_("ne plus reporter"), parents=[common()])
    resume.set_defaults(run=_resume)
    return parser


def _hours(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 168:
        raise argparse.ArgumentTypeError(_("un nombre d'heures de 1 à 168 est attendu"))
    return int(text)


def _update(args: argparse.Namespace) -> BaseUpdate:
    import logging

    from vigie.host.boxconfig import load
    from vigie.host.trusted_clock import TrustedClock
    from vigie.update.base import BaseUpdate, FilterSocket

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of each keyholder who did not sign
    config = load(args.config)
    return BaseUpdate(config, TrustedClock(config), FilterSocket(config.paths.filter_socket))


def _run(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.update.service import main

    return main(load(args.config), _update(args))


def _once(args: argparse.Namespace) -> int:
    return _shown(args, _update(args).look())


def _status(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.update.store import Store

    return _shown(args, Store(load(args.config).paths.update).status())


def _firmware_run(args: argparse.Namespace) -> int:
    import logging

    from vigie.host.boxconfig import load
    from vigie.host.trusted_clock import TrustedClock
    from vigie.update.firmware.machine import Machine
    from vigie.update.firmware.process import Service, main
    from vigie.update.firmware.rauc import Rauc
    from vigie.update.firmware.service import Firmware
    from vigie.update.firmware.source import Source
    from vigie.update.firmware.store import Store

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)
    config = load(args.config)
    clock = TrustedClock(config)
    machine = Machine(config, clock)
    store = Store(config.paths)

    def make(service: Service) -> Firmware:
        source = Source(config, clock, store.folder)
        return Firmware(store, clock, machine, source, Rauc(service.alive), service.alive)

    return main(make, config.paths.run_update, machine.slots)


def _firmware_status(args: argparse.Namespace) -> int:
    from vigie.contract.errors import ContractError
    from vigie.contract.fields import Fields
    from vigie.contract.firmware import FirmwareState, Phase
    from vigie.host.boxconfig import load
    from vigie.update.firmware.store import shown
    from vigie.update.firmware.texts import sentences

    said = shown(load(args.config).paths)
    try:
        state = FirmwareState.from_fields(Fields("firmware", (said or {}).get("state")))
    except ContractError:
        output.emit(args, {}, _("Le service des mises à jour du système n'a encore rien dit depuis le démarrage."))
        return 1
    said = said or {}
    lines = list(sentences(state))
    lines.append(_("Version en service : {version}").format(version=said.get("running", "?")))
    if isinstance(said.get("percent"), int):
        lines.append(_("Avancement : {percent} %").format(percent=said["percent"]))
    if state.phase is Phase.POSTPONED and said.get("until"):
        lines.append(_("Reportée jusqu'au {when}").format(when=output.moment(said["until"])))
    if state.tries:
        lines.append(_("Essais qui ont échoué : {tries}").format(tries=state.tries))
    lines += [f"! {text}" for text in (said.get("evidence"), said.get("detail")) if text]
    output.emit(args, said | {"text": " ".join(sentences(state))}, "\n".join(lines))
    return 1 if state.phase in (Phase.FAILED, Phase.ROLLED_BACK) else 0


def _postpone(args: argparse.Namespace) -> int:
    return _asked(args, f"postpone {args.hours * 3600}", _("La mise à jour est reportée."))


def _resume(args: argparse.Namespace) -> int:
    return _asked(args, "resume", _("La mise à jour n'est plus reportée."))


def _asked(args: argparse.Namespace, request: str, done: str) -> int:
    from vigie.host.boxconfig import load
    from vigie.update.firmware.process import ask

    answer = ask(load(args.config).paths.run_update, request)
    if answer is None:
        text = _("Le service ne répond pas : il n'est pas lancé, ou une installation est en cours.")
    else:
        text = done if answer else _("Refusé : rien n'attend, ou cette mise à jour est trop importante.")
    output.emit(args, {"ok": answer is True, "text": text}, text)
    return 0 if answer else 1


def _shown(args: argparse.Namespace, status: Status) -> int:
    from dataclasses import asdict

    from vigie.update.codes import FINE, sentence

    output.emit(args, asdict(status) | {"text": sentence(status.code)}, render(status))
    return 0 if status.code in FINE else 1


def render(status: Status) -> str:
    """The status as text."""
    from vigie.update.codes import sentence

    lines = [sentence(status.code)]
    if status.version:
        trial = _(" (à l'essai)") if status.candidate else ""
        lines.append(_("Base en service : {version}{trial}").format(version=status.version, trial=trial))
    if status.wanted and status.wanted != status.version:
        lines.append(_("Base publiée pour ce boîtier : {version}").format(version=status.wanted))
    if status.updated:
        lines.append(
            _("Dernière mise à jour le {when}, en {seconds} s").format(
                when=output.moment(status.updated), seconds=status.seconds
            )
        )
    if status.at:
        lines.append(_("Dernier regard le {when}").format(when=output.moment(status.at)))
    if status.detail:
        lines += ["", f"! {status.detail}"]
    return "\n".join(lines)
