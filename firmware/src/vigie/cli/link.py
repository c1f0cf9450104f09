"""`vigie link run|status`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vigie.cli import output
from vigie.i18n import _, ngettext


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `link` and what it does."""
    from vigie.host.boxconfig import DEFAULT_PATH

    parser = subparsers.add_parser("link", help=_("la liaison avec le département"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    for name, text, run in (
        ("run", _("lancer la liaison (reste au premier plan)"), _run),
        ("status", _("état de la liaison"), _status),
    ):
        action = actions.add_parser(name, help=text, parents=[output.common()])
        action.add_argument(
            "--config", type=Path, default=DEFAULT_PATH, metavar=_("FICHIER"), help=_("configuration du boîtier (YAML)")
        )
        action.set_defaults(run=run)
    return parser


def _run(args: argparse.Namespace) -> int:
    from vigie.host.boxconfig import load
    from vigie.link.daemon import run

    return run(load(args.config))


def _status(args: argparse.Namespace) -> int:
    from vigie.errors import DaemonError
    from vigie.host.boxconfig import load
    from vigie.link.codes import LinkCode
    from vigie.link.store import Store

    store = Store(load(args.config).paths)
    status = store.load_status()
    if status is None:
        raise DaemonError(_("{path} : la liaison n'est pas lancée (vigie link run)").format(path=store.status_file))
    output.emit(args, status, render(status))
    return 0 if status.get("code") == LinkCode.CONNECTED else 1


def render(status: dict[str, Any]) -> str:
    """The status as text."""
    from vigie.contract.words import DesiredStatus
    from vigie.link.codes import LinkCode, sentence

    code = status.get("code")
    lines = [sentence(LinkCode(code)) if code in tuple(LinkCode) else str(code)]
    if isinstance(status.get("since"), int):
        lines.append(_("Depuis le {when}").format(when=output.moment(status["since"])))
    if status.get("detail"):
        lines.append(_("Détail : {detail}").format(detail=status["detail"]))
    waiting = status.get("outbox", {}).get("waiting")
    if isinstance(waiting, int):
        text = ngettext("{n} message en attente de confirmation", "{n} messages en attente de confirmation", waiting)
        lines.append(text.format(n=waiting))
    desired = status.get("desired", {})
    words = {
        DesiredStatus.NONE: _("aucun ordre du département"),
        DesiredStatus.IN_FORCE: _("ordres du département, version {n} : en vigueur"),
        DesiredStatus.PARTIAL: _("ordres du département, version {n} : en vigueur en partie"),
        DesiredStatus.EXPIRED: _("ordres du département, version {n} : expirés"),
    }
    if desired.get("status") in words:
        lines.append(words[DesiredStatus(desired["status"])].format(n=desired.get("version")))
    if desired.get("refused"):
        lines.append(_("Dernier ordre refusé : {code}").format(code=desired["refused"]))
    return "\n".join(lines)
