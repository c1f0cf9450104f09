"""`vigie-department init|serve|ingest|certificates|backup|restore|doctor|retain`."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.errors import UsageError
from vigie_department.texts import _, ngettext


def register(subparsers: Any) -> None:
    """Adds the commands of the server itself."""
    one = subparsers.add_parser("init", help=_("faire un département : clés, autorité, dépôt, premier administrateur"))
    one.add_argument("domain", metavar=_("DOMAINE"), help=_("domaine du département, par exemple vigie.departement.fr"))
    one.add_argument("--organisation", default="", metavar=_("NOM"), help=_("nom du département"))
    one.add_argument("--database", default="", metavar="URL", help=_("sqlite:///… (par défaut) ou postgresql://…"))
    one.add_argument("--listen", default="", metavar=_("ADRESSE"), help=_("adresse publique ; toutes par défaut"))
    for name in ("https", "mqtt", "web"):
        one.add_argument(f"--{name}-port", type=int, metavar="PORT", help=argparse.SUPPRESS)
    one.add_argument(
        "--users",
        action=argparse.BooleanOptionalAction,
        help=_("un utilisateur par service (par défaut, sauf avec --root)"),
    )
    one.add_argument("--admin", default="admin", metavar=_("NOM"), help=_("premier administrateur"))
    one.add_argument(
        "--admin-password", type=Path, metavar=_("FICHIER"), help=_("fichier du mot de passe ; sinon demandé")
    )
    one.add_argument(
        "--passphrases",
        type=Path,
        metavar=_("FICHIER"),
        help=_("sept phrases de passe, une par ligne ; sinon demandées"),
    )
    one.set_defaults(run=_init, needs_config=False)

    one = subparsers.add_parser("serve", help=_("servir la console (reste au premier plan)"))
    one.add_argument("--tcp", default="", metavar=_("ADRESSE:PORT"), help=argparse.SUPPRESS)
    one.set_defaults(run=_serve)

    one = subparsers.add_parser("ingest", help=_("recevoir ce que disent les boîtiers (reste au premier plan)"))
    one.set_defaults(run=_ingest)

    one = subparsers.add_parser("migrate", help=_("mettre la base de données et les fichiers de la console à jour"))
    one.set_defaults(run=_migrate)

    one = subparsers.add_parser("certificates", help=_("certificats des serveurs : voir, renouveler"))
    one.add_argument("action", choices=("show", "renew"))
    one.add_argument("--all", action="store_true", help=_("renouveler aussi ceux qui ont le temps"))
    one.set_defaults(run=_certificates)

    one = subparsers.add_parser("backup", help=_("sauvegarder tout ce qu'il faut à un nouveau serveur"))
    one.add_argument("--to", type=Path, metavar=_("DOSSIER"))
    one.set_defaults(run=_backup)

    one = subparsers.add_parser("restore", help=_("refaire le département sur un serveur vide"))
    one.add_argument("archive", type=Path, metavar=_("SAUVEGARDE"))
    one.add_argument("--database", default="", metavar="URL", help=_("la base de ce serveur, si elle a changé"))
    one.set_defaults(run=_restore, needs_config=False)

    one = subparsers.add_parser("doctor", help=_("dire ce qui ne va pas, et quoi faire"))
    one.add_argument("--json", action="store_true", help=_("pour les programmes"))
    one.set_defaults(run=_doctor)

    one = subparsers.add_parser("retain", help=_("effacer ce qui a été gardé assez longtemps"))
    one.add_argument("--dry-run", action="store_true", help=_("compter seulement"))
    one.set_defaults(run=_retain)


def _init(args: argparse.Namespace) -> int:
    from vigie_department.ops import init, owners

    path = configuration.locate(args.config, args.root)
    root = args.root
    users = args.users if args.users is not None else root is None
    top = {name: value for name, value in (("database", args.database), ("listen", args.listen)) if value}
    ports = {name: getattr(args, f"{name}_port") for name in ("https", "mqtt", "web")}
    extra: dict[str, dict[str, Any]] = {"": top, "ports": {name: port for name, port in ports.items() if port}}
    if users:
        extra["users"] = {name: getattr(owners.DEBIAN, name) for name in owners.DEBIAN.__slots__}
    if path.exists():
        # before anything is asked
        init.check(init.Request("", path, (), "", ""))
    request = init.Request(
        text=configuration.render(
            args.domain, root=root, organisation=args.organisation, extra={k: v for k, v in extra.items() if v}
        ),
        path=path,
        passphrases=_passphrases(args.passphrases, init.SECRETS),
        administrator=args.admin,
        password=read_password(args.admin_password, args.admin),
    )
    config = init.run(request, tell=lambda line: print(line, file=sys.stderr))
    print(init.next_steps(config))
    return 0


def _passphrases(path: Path | None, names: tuple[str, ...]) -> list[str]:
    if path is not None:
        return _lines(path)
    if not sys.stdin.isatty():
        raise UsageError(_("sans terminal, donnez les phrases de passe par --passphrases FICHIER"))
    print(_("Chaque détenteur tape sa phrase de passe, deux fois, sans que les autres la voient."))
    return [_twice(_("phrase de passe de {name} : ").format(name=name)) for name in names]


def read_password(path: Path | None, name: str) -> str:
    """From a file, else from the terminal, else a new one, shown once."""
    if path is not None:
        return _lines(path)[0]
    if sys.stdin.isatty():
        return _twice(_("mot de passe de {name} : ").format(name=name))
    password = secrets.token_urlsafe(18)
    print(_("mot de passe de {name} : {password}").format(name=name, password=password))
    return password


def _twice(prompt: str) -> str:
    while True:
        first = getpass.getpass(prompt)
        if first == getpass.getpass(_("encore une fois : ")):
            return first
        print(_("Ce n'est pas la même."), file=sys.stderr)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(_("{path} ne se lit pas : {error}").format(path=path, error=error.strerror)) from error
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UsageError(_("{path} est vide").format(path=path))
    return found


def _serve(args: argparse.Namespace, config: Config) -> int:
    from vigie_department.ops import serve

    return serve.run(config, args.tcp)


def _ingest(_args: argparse.Namespace, config: Config) -> int:
    from vigie_department.ingest import service

    return service.run(config)


def _migrate(_args: argparse.Namespace, config: Config) -> int:
    from vigie_department.ops import init

    init.database(config)
    init.static(config)
    return 0


def _certificates(args: argparse.Namespace, config: Config) -> int:
    from vigie_department.ops import certificates, owners

    if args.action == "renew":
        done = certificates.renew(config, everything=args.all)
        owners.give(config)
        for path in done:
            print(path)
        print(ngettext("{n} certificat renouvelé", "{n} certificats renouvelés", len(done)).format(n=len(done)))
        if done:
            print(_("Rechargez mosquitto et nginx, redémarrez l'ingest."))
        return 0
    now = datetime.now(UTC)
    for one in certificates.show(config):
        days = (one.at - now).days
        print(_("{name} : jusqu'au {date} ({days} jours)").format(name=one.name, date=f"{one.at:%Y-%m-%d}", days=days))
    return 0


def _backup(args: argparse.Namespace, config: Config) -> int:
    from vigie_department.ops import backup

    path = backup.make(config, args.to or config.paths.backup)
    print(
        _("{path} ({size:.1f} Mo) : aussi secret que le serveur ; copiez-le ailleurs").format(
            path=path, size=path.stat().st_size / 1e6
        )
    )
    return 0


def _restore(args: argparse.Namespace) -> int:
    from vigie_department.ops import restore

    path = configuration.locate(args.config, args.root)
    request = restore.Request(args.archive, path, args.root, args.database)
    config, seconds = restore.run(request, tell=lambda line: print(line, file=sys.stderr))
    print(restore.after(config))
    print(_("{s:.1f} secondes").format(s=seconds))
    return 0


def _doctor(args: argparse.Namespace, config: Config) -> int:
    from vigie_department.console import setup
    from vigie_department.ops import doctor

    setup.start(config)
    found = doctor.run(config)
    wrong = [finding for finding in found if not finding.ok]
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], ensure_ascii=False, indent=2))
        return 1 if wrong else 0
    for finding in found:
        print(f"{'✓' if finding.ok else '✗'} {finding.check:13} {finding.text}")
        if finding.todo:
            print(f"  {'':13} → {finding.todo}")
    if wrong:
        print(ngettext("{n} chose à faire", "{n} choses à faire", len(wrong)).format(n=len(wrong)))
    else:
        print(_("Tout va bien."))
    return 1 if wrong else 0


def _retain(args: argparse.Namespace, config: Config) -> int:
    from vigie_department.console import setup

    setup.start(config)
    from vigie_department.console.services import audit
    from vigie_department.ops import retain

    for name, count in retain.run(audit.shell(), config.retention, dry=args.dry_run).items():
        print(f"{name:12} {count}")
    return 0
