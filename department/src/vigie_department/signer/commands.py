"""`vigie-department signer`, `keys`, `operator`, `approve`, `log`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import dsse
from vigie_department.config import Config
from vigie_department.errors import DepartmentError, UsageError
from vigie_department.signer import keys_commands
from vigie_department.signer.client import Signer
from vigie_department.signer.keyfiles import read_key, write_key
from vigie_department.signer.log import verify
from vigie_department.signer.passphrases import ask_one, new_one
from vigie_department.signer.rules import EMERGENCY_BASE, approval_message
from vigie_department.signer.service import APPROVAL_TYPE
from vigie_department.signer.store import Store
from vigie_department.texts import _


def register(subparsers: Any) -> None:
    """Adds the signer's commands."""
    parser = subparsers.add_parser("signer", help=_("le processus qui détient les clés en ligne"))
    parser.set_defaults(run=_serve)
    keys_commands.register(subparsers)
    _register_operator(subparsers)

    parser = subparsers.add_parser("approve", help=_("approuver une demande qui veut deux opérateurs"))
    parser.add_argument("id", nargs="?", metavar=_("DEMANDE"), help=_("numéro de la demande ; sans lui, leur liste"))
    parser.add_argument("--as", dest="name", metavar=_("NOM"), help=_("l'opérateur qui approuve"))
    parser.add_argument("--key", type=Path, metavar=_("FICHIER"), help=_("sa clé (défaut : dans son dossier)"))
    parser.add_argument("--passphrase-file", type=Path, metavar=_("FICHIER"), help=_("phrase secrète de la clé"))
    parser.set_defaults(run=_approve)

    parser = subparsers.add_parser("log", help=_("journal des signatures"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    one = actions.add_parser("verify", help=_("vérifier que rien n'y a été changé ni retiré"))
    one.set_defaults(run=_verify)
    one = actions.add_parser("show", help=_("les signatures, de la plus ancienne à la plus récente"))
    one.add_argument("--after", type=int, default=0, metavar="N", help=_("à partir du numéro suivant"))
    one.add_argument("--limit", type=int, default=100, metavar="N")
    one.add_argument("--json", action="store_true", help=_("une ligne de JSON par signature"))
    one.set_defaults(run=_show)


def _register_operator(subparsers: Any) -> None:
    parser = subparsers.add_parser("operator", help=_("opérateurs qui approuvent à deux"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    one = actions.add_parser("add", help=_("créer la clé d'un opérateur et l'enregistrer"))
    one.add_argument("name", metavar=_("NOM"))
    one.add_argument("--key", type=Path, metavar=_("FICHIER"), help=_("où écrire sa clé"))
    one.add_argument("--public", metavar="HEX", help=_("clé publique qu'il a déjà, au lieu d'en créer une"))
    one.add_argument("--passphrase-file", type=Path, metavar=_("FICHIER"), help=_("phrase secrète de la clé"))
    one.set_defaults(run=_operator_add)
    one = actions.add_parser("remove", help=_("retirer un opérateur"))
    one.add_argument("name", metavar=_("NOM"))
    one.set_defaults(run=_operator_remove)
    one = actions.add_parser("list", help=_("les opérateurs enregistrés"))
    one.set_defaults(run=_operator_list)


def _serve(_args: argparse.Namespace, config: Config) -> int:
    from vigie_department.signer.daemon import serve

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    serve(config, lambda: logging.getLogger("vigie.signer").info("listening at %s", config.paths.signer_socket))
    return 0


def operator_key(name: str, given: Path | None) -> Path:
    """File of an operator's approval key."""
    return given if given is not None else Path.home() / ".config" / "vigie" / f"operator-{name}.pem"


def _operator_add(args: argparse.Namespace, config: Config) -> int:
    signer = Signer(config.paths.signer_socket)
    if args.public is not None:
        signer.call("operator-add", name=args.name, public=args.public)
        print(_("{name} : enregistré").format(name=args.name))
        return 0
    path = operator_key(args.name, args.key)
    if path.exists():
        raise UsageError(_("{path} existe déjà : donnez --public, ou un autre fichier").format(path=path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    write_key(path, key, new_one(_("Phrase secrète de {name} : ").format(name=args.name), args.passphrase_file))
    try:
        signer.call("operator-add", name=args.name, public=dsse.public_bytes(key).hex())
    except BaseException:
        path.unlink()  # a key that the signer does not know serves nobody
        raise
    print(_("{name} : enregistré, clé dans {path}").format(name=args.name, path=path))
    return 0


def _operator_remove(args: argparse.Namespace, config: Config) -> int:
    Signer(config.paths.signer_socket).call("operator-remove", name=args.name)
    print(_("{name} : retiré").format(name=args.name))
    return 0


def _operator_list(_args: argparse.Namespace, config: Config) -> int:
    for name, public in sorted(Signer(config.paths.signer_socket).call("operators")["operators"].items()):
        print(f"{name:20} {public}")
    return 0


def _approve(args: argparse.Namespace, config: Config) -> int:
    signer = Signer(config.paths.signer_socket)
    rows = {row["id"]: row for row in signer.call("requests")["requests"]}
    if args.id is None:
        for row in rows.values():
            print(_request_line(row))
        return 0
    if args.id not in rows:
        raise UsageError(_("{id} : pas de telle demande").format(id=args.id))
    if args.name is None:
        raise UsageError(_("qui approuve ? Donnez --as NOM"))
    row = rows[args.id]
    print(_request_line(row))
    path = operator_key(args.name, args.key)
    key = read_key(path, ask_one(_("Phrase secrète de {name} : ").format(name=args.name), args.passphrase_file))
    answer = approve(signer, row, args.name, key)
    print(_("approuvée par {n} opérateurs sur {needed}").format(n=answer["approved"], needed=answer["needed"]))
    if answer["approved"] >= answer["needed"] and row["kind"] == EMERGENCY_BASE:
        return _release(config)
    return 0


def _release(config: Config) -> int:
    """The base that was approved leaves now; where this user may not, the timer's next turn does it."""
    from vigie_department.base.commands import tick

    try:
        return tick(config)
    except (OSError, DepartmentError) as e:
        print(_("elle partira à la prochaine minuterie, ou par `vigie-department base tick` ({e})").format(e=e))
        return 0


def approve(signer: Signer, request: dict[str, Any], name: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Approves a request of `requests` with an operator's key -> {approved, needed}."""
    message = approval_message(request["id"], request["kind"], request["body"], request["expires"])
    signature = key.sign(dsse.pae(APPROVAL_TYPE, message)).hex()
    return signer.call("approve", id=request["id"], operator=name, signature=signature)


def _request_line(row: dict[str, Any]) -> str:
    state = _("utilisée") if row["used"] else ", ".join(sorted(row["approvals"])) or _("personne encore")
    body = json.dumps(row["body"], ensure_ascii=False)
    return _("{id} {kind} {body}, demandée par {by}, jusqu'à {until} ; approuvée par : {state}").format(
        id=row["id"], kind=row["kind"], body=body, by=row["by"], until=_moment(row["expires"]), state=state
    )


def _verify(_args: argparse.Namespace, config: Config) -> int:
    n = verify(Store(config.paths.signer).log)
    print(_("{n} enregistrements, chaîne intacte").format(n=n))
    return 0


def _show(args: argparse.Namespace, config: Config) -> int:
    for record in Signer(config.paths.signer_socket).log(args.after, args.limit):
        if args.json:
            print(json.dumps(record, ensure_ascii=False))
        else:
            what = {k: v for k, v in record["facts"].items() if k in ("box", "version", "id", "name", "released")}
            words = (record["seq"], _moment(record["at"]), record["op"], record["who"] or record["peer"])
            print(*words, record["digest"][:16], json.dumps(what, ensure_ascii=False))
    return 0


def _moment(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
