"""`vigie-department base publish|resume|advance|cancel|revert|tick|refresh|status`."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import pwd
import sys
import time
from pathlib import Path
from typing import Any

from vigie_department.base import texts
from vigie_department.base.announce import announce
from vigie_department.base.build import Workshop
from vigie_department.base.compiler import Compiler
from vigie_department.base.counts import FleetCounts
from vigie_department.base.publisher import Publisher
from vigie_department.base.release import Release, Stage, active, current
from vigie_department.base.serving import Serving
from vigie_department.base.settings import PublishSettings
from vigie_department.base.store import DjangoStore
from vigie_department.config import Config
from vigie_department.errors import UsageError
from vigie_department.signer.client import Signer
from vigie_department.signer.repository import Repository
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds `base` and its actions."""
    base = subparsers.add_parser("base", help=_("base toxique : publier, suivre, revenir en arrière"))
    actions = base.add_subparsers(dest="action", metavar=_("ACTION"), required=True)

    one = actions.add_parser("publish", help=_("compiler des listes et publier la base par vagues"))
    one.add_argument(
        "feed", nargs="*", type=Path, metavar=_("LISTE"), help=_("fichier, dossier ou jeu de listes (.yaml)")
    )
    one.add_argument("--prepare", action="store_true", help=_("compiler et comparer, sans publier"))
    one.add_argument("--emergency", action="store_true", help=_("à tous d'un coup, avec l'accord de deux opérateurs"))
    one.add_argument("--replace", action="store_true", help=_("remplacer la base dont la publication est en cours"))
    one.add_argument(
        "--least", type=int, default=0, metavar="VERSION", help=_("version minimale (après une restauration)")
    )
    _operator(one)
    one.set_defaults(run=_publish)

    one = actions.add_parser("resume", help=_("publier une base préparée"))
    one.add_argument("version", type=int, metavar="VERSION")
    one.add_argument("--emergency", action="store_true", help=_("à tous d'un coup, avec l'accord de deux opérateurs"))
    one.add_argument("--replace", action="store_true", help=_("remplacer la base dont la publication est en cours"))
    _operator(one)
    one.set_defaults(run=_resume)

    one = actions.add_parser("advance", help=_("passer à l'étape suivante sans attendre"))
    one.add_argument("--emergency", action="store_true", help=_("demander l'accord de deux opérateurs"))
    _operator(one)
    one.set_defaults(run=_advance)

    one = actions.add_parser("cancel", help=_("abandonner une base que personne n'applique encore"))
    _operator(one)
    one.set_defaults(run=_cancel)

    one = actions.add_parser("revert", help=_("remettre partout le contenu d'avant la dernière base"))
    _operator(one)
    one.set_defaults(run=_revert)

    one = actions.add_parser("tick", help=_("faire avancer la publication quand son temps est passé (minuterie)"))
    one.set_defaults(run=_tick)

    one = actions.add_parser("refresh", help=_("renouveler l'horodatage du dépôt (minuterie)"))
    one.set_defaults(run=_refresh)

    one = actions.add_parser("status", help=_("où en est la publication"))
    one.add_argument("--json", action="store_true", help=_("pour les programmes"))
    one.set_defaults(run=_status)


def _operator(parser: Any) -> None:
    parser.add_argument("--as", dest="operator", metavar=_("NOM"), help=_("opérateur (défaut : l'utilisateur)"))


def publisher_of(config: Config) -> Publisher:
    """The department's publisher, with its database."""
    from vigie_department.console import setup

    become(config.users.publisher)
    setup.start(config)
    settings = settings_of(config)
    compiler = Compiler(settings.compiler, settings.allowlists, settings.suffixes)
    return Publisher(
        folder=config.paths.base,
        serving=Serving(
            Repository(config.paths.repository),
            Signer(config.paths.signer_socket),
            Workshop(config.paths.base / "versions", compiler),
        ),
        store=DjangoStore(),
        counts=FleetCounts(),
        settings=settings,
        announce=announce,
        clock=time.time,
    )


def become(user: str) -> None:
    """Goes on as the publisher's user when root runs a command: files made as root would lock the timer out."""
    if not user or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as e:
        raise UsageError(f"users.publisher: this machine has no user {user!r}") from e
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def settings_of(config: Config) -> PublishSettings:
    """`[publish]` of the configuration."""
    return config.publish


def feeds_of(config: Config, given: list[Path]) -> list[Path]:
    """What to compile: as given, else the configured feed sets."""
    if given:
        return given
    configured = settings_of(config).feeds
    folder = Path(configured) if configured else config.paths.base / "feeds"
    if folder.is_file():
        return [folder]
    sets = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not sets:
        raise UsageError(
            _("aucune liste : donnez des fichiers, ou mettez un jeu de listes (.yaml) dans {folder}").format(
                folder=folder
            )
        )
    return sets


def _who(args: argparse.Namespace) -> str:
    return args.operator or getpass.getuser()


def _publish(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        release = publisher.prepare(feeds_of(config, args.feed), _who(args), least=args.least)
        print(texts.compiled(release))
        if args.prepare:
            print(_("Préparée, pas publiée : `vigie-department base resume {v}`").format(v=release.version))
            return 0
        return _go(publisher, release, args)


def _resume(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        found = [r for r in publisher.releases() if r.version == args.version and r.stage is Stage.PREPARED]
        if not found:
            raise UsageError(_("{v} : pas une base préparée").format(v=args.version))
        return _go(publisher, found[0], args)


def _go(publisher: Publisher, release: Release, args: argparse.Namespace) -> int:
    if args.emergency:
        return _asked(publisher.emergency(release, replace_active=args.replace))
    print(texts.line(publisher.start(release, replace_active=args.replace)))
    return 0


def _asked(release: Release) -> int:
    print(texts.line(release))
    print(
        _(
            "Deux opérateurs l'approuvent par `vigie-department approve {id} --as NOM` ; elle part aussitôt après."
        ).format(id=release.approval)
    )
    return 0


def _active(publisher: Publisher) -> Release:
    release = active(publisher.releases())
    if release is None:
        raise UsageError(_("aucune publication n'est en cours"))
    return release


def _advance(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        release = _active(publisher)
        if args.emergency:
            return _asked(publisher.emergency(release))
        print(texts.line(publisher.advance(release)))
    return 0


def _cancel(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        print(texts.line(publisher.cancel(_active(publisher), _who(args))))
    return 0


def _revert(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        release = publisher.revert(_who(args))
        print(texts.compiled(release))
        print(texts.line(release))
    return 0


def _tick(_args: argparse.Namespace, config: Config) -> int:
    return tick(config)


def tick(config: Config) -> int:
    """Carries on what is on its way; 1 when it was stopped."""
    publisher = publisher_of(config)
    with publisher.locked():
        done = publisher.tick()
    if done is None:
        return 0
    release, reason = done
    print(f"{texts.line(release)} : {reason}")
    return 1 if release.stage is Stage.STOPPED else 0


def _refresh(_args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    with publisher.locked():
        found = publisher.refresh()
    for path in found.missing:
        print(_("{path} : annoncé mais absent du dépôt, publiez de nouveau").format(path=path), file=sys.stderr)
    return 1 if found.missing else 0


def _status(args: argparse.Namespace, config: Config) -> int:
    publisher = publisher_of(config)
    releases = publisher.releases()
    now, moving = current(releases), active(releases)
    if args.json:
        rows = [_row(r) for r in releases[-20:]]
        ids = {"current": now.version if now else None, "active": moving.version if moving else None}
        print(json.dumps({**ids, "releases": rows}, ensure_ascii=False))
        return 0
    print(texts.line(now) if now else _("aucune base n'est publiée partout"))
    if moving is not None:
        print(texts.line(moving))
        verdict, left = publisher.verdict(moving), publisher.hours_left(moving)
        print(f"  {verdict.reason}")
        if left > 0 and moving.stage is not Stage.STOPPED:
            print(_("  encore {hours} h d'observation").format(hours=f"{left:.1f}".replace(".", ",")))
        for one in publisher.observed(moving)[:20]:
            print(_("  {indicator} : {communes} communes, {n} fois").format(
                indicator=one.indicator, communes=one.communes, n=texts.number(one.count)
            ))  # fmt: skip
    return 0


def _row(release: Release) -> dict[str, Any]:
    return {
        "version": release.version,
        "stage": release.stage.value,
        "since": int(release.stage_since),
        "sha256": release.base.sha256,
        "length": release.base.length,
        "candidate": release.candidate.version if release.candidate else None,
        "previous": release.previous,
        "reverts": release.reverts,
        "emergency": release.emergency,
        "approval": release.approval,
        "operator": release.operator,
        "note": release.note,
    }
