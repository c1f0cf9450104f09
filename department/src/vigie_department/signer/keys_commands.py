"""`vigie-department keys`: the ceremonies.

Each of them makes a proposal. With `--offline DIR` (the sticks are here) it is signed and installed at once; with
`--proposal FILE` it is only written, to be signed elsewhere (`keys sign`) and brought back (`keys install`).
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vigie.contract import base as contract_base
from vigie.contract import dsse
from vigie.contract.trust import SteeringKeys
from vigie_department.config import Config
from vigie_department.errors import UsageError
from vigie_department.signer import keys, offline, orders, tufstate
from vigie_department.signer.client import Signer, files_of
from vigie_department.signer.files import read_bounded, write_atomically
from vigie_department.signer.keys import Proposal
from vigie_department.signer.offline import Keyholder
from vigie_department.signer.passphrases import new_one, of_keyholders
from vigie_department.signer.repository import Repository
from vigie_department.signer.tufstate import TufState
from vigie_department.texts import _

_MAX_TARGET = 1 << 20


def register(subparsers: Any) -> None:
    """Adds `keys` and its actions."""
    parser = subparsers.add_parser("keys", help=_("clés : état, renouvellement, cérémonies hors ligne"))
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)

    one = actions.add_parser("status", help=_("fins de validité"))
    one.set_defaults(run=_status)

    one = _ceremony(actions, "renew", _("prolonger root et targets"))
    one.set_defaults(run=_renew)

    one = _ceremony(actions, "rotate-online", _("remplacer toutes les clés en ligne"))
    one.set_defaults(run=_rotate)

    one = _ceremony(actions, "replace-keyholder", _("remplacer un porteur de clé"))
    one.add_argument("number", type=int, choices=range(1, 6), metavar=_("PORTEUR"), help="1..5")
    one.add_argument("--new", type=Path, required=True, metavar=_("DOSSIER"), help=_("où écrire sa nouvelle clé"))
    one.set_defaults(run=_replace)

    one = _ceremony(actions, "sign-targets", _("ajouter ou retirer des fichiers signés hors ligne"))
    one.add_argument("--add", action="append", default=[], metavar="CIBLE=FICHIER", help="override/x.json=x.json")
    one.add_argument("--remove", action="append", default=[], metavar="CIBLE")
    one.set_defaults(run=_sign_targets)

    one = _ceremony(actions, "override", _("lever les limites des boîtiers pour une base précise"))
    one.add_argument("version", type=int, metavar="VERSION")
    one.add_argument("file", type=Path, metavar="BASE", help=_("fichier de la base"))
    one.set_defaults(run=_override)

    one = actions.add_parser("sign", help=_("signer une proposition, sur une machine sans réseau"))
    one.add_argument("proposal", type=Path, metavar=_("PROPOSITION"))
    _holders(one, required=True)
    one.set_defaults(run=_sign, needs_config=False)

    one = actions.add_parser("install", help=_("mettre en vigueur une proposition signée"))
    one.add_argument("proposal", type=Path, metavar=_("PROPOSITION"))
    one.set_defaults(run=_install_file)

    one = actions.add_parser("sign-orders", help=_("seconde signature d'ordres de masse"))
    one.add_argument("orders", type=Path, metavar=_("ORDRES"))
    _holders(one, required=True)
    one.set_defaults(run=_sign_orders, needs_config=False)

    one = actions.add_parser("retire-steering", help=_("ne plus signer avec l'ancienne clé de pilotage"))
    one.set_defaults(run=_retire)


def _ceremony(actions: Any, name: str, text: str) -> Any:
    one = actions.add_parser(name, help=text)
    where = one.add_mutually_exclusive_group(required=True)
    where.add_argument("--offline", type=Path, metavar=_("DOSSIER"), help=_("dossier des clés hors ligne"))
    where.add_argument("--proposal", type=Path, metavar=_("FICHIER"), help=_("proposition à signer ailleurs"))
    _holders(one, required=False)
    return one


def _holders(parser: Any, *, required: bool) -> None:
    if required:
        parser.add_argument("--offline", type=Path, required=True, metavar=_("DOSSIER"), help=_("clés hors ligne"))
    parser.add_argument("--keyholders", type=_numbers, default=(), metavar="1,2", help=_("les porteurs présents"))
    parser.add_argument("--passphrases", type=Path, metavar=_("FICHIER"), help=_("une phrase secrète par ligne"))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as e:
        raise argparse.ArgumentTypeError(_("des numéros de 1 à 5 séparés par des virgules")) from e
    if not all(1 <= number <= 5 for number in found):
        raise argparse.ArgumentTypeError(_("des numéros de 1 à 5 séparés par des virgules"))
    return found


def _state(config: Config) -> TufState:
    return tufstate.from_files(Signer(config.paths.signer_socket).tuf_current())


def _steering(config: Config, state: TufState) -> SteeringKeys:
    info = state.offline_files()[contract_base.STEERING]
    path = Repository(config.paths.repository).path_of(contract_base.STEERING, info.sha256)
    return SteeringKeys.from_bytes(read_bounded(path, _MAX_TARGET))


def _status(_args: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)
    for name, when in sorted(_state(config).expires().items(), key=lambda item: item[1]):
        print(_("{role:10} jusqu'au {date:%Y-%m-%d %H:%M} UTC ({days} jours)").format(
            role=name, date=when, days=(when - now).days
        ))  # fmt: skip
    return 0


def _renew(args: argparse.Namespace, config: Config) -> int:
    state = _state(config)
    return _conclude(args, config, state, keys.propose_root(state, _steering(config, state), time.time()), [])


def _rotate(args: argparse.Namespace, config: Config) -> int:
    state = _state(config)
    public = Signer(config.paths.signer_socket).call("next-keys")["public"]
    online = {role: bytes.fromhex(text) for role, text in public.items()}
    proposal = keys.propose_root(state, _steering(config, state), time.time(), online=online)
    return _conclude(args, config, state, proposal, [])


def _replace(args: argparse.Namespace, config: Config) -> int:
    state = _state(config)
    prompt = _("Nouvelle phrase secrète du porteur {n} : ").format(n=args.number)
    text = new_one(prompt, None) if args.passphrases is None else of_keyholders(args.passphrases)(args.number)
    args.new.mkdir(mode=0o700, parents=True, exist_ok=True)
    holder = offline.create_one(args.new, args.number, text)
    proposal = keys.propose_root(
        state, _steering(config, state), time.time(), keyholders={args.number: holder.public}
    )  # fmt: skip
    return _conclude(args, config, state, proposal, [holder])


def _sign_targets(args: argparse.Namespace, config: Config) -> int:
    add: dict[str, bytes] = {}
    for text in args.add:
        path, separator, file = text.partition("=")
        if not separator:
            raise UsageError(_("--add {text} : CIBLE=FICHIER est attendu").format(text=text))
        add[path] = read_bounded(Path(file), _MAX_TARGET)
    state = _state(config)
    return _conclude(args, config, state, keys.propose_targets(state, time.time(), add, args.remove), [])


def _override(args: argparse.Namespace, config: Config) -> int:
    if args.offline is None:
        raise UsageError(_("la levée de limites se signe avec les clés : donnez --offline"))
    digest = keys.digest_of_file(args.file)
    state = _state(config)
    holders = offline.open_keys(args.offline, of_keyholders(args.passphrases), args.keyholders)
    content = keys.override_envelope(args.version, digest, holders)
    proposal = keys.propose_targets(state, time.time(), {contract_base.override_path(args.version): content})
    keys.check_numbers(state.root.signed, holders)
    return _install(config, proposal.signed(holders))


def _conclude(
    args: argparse.Namespace, config: Config, state: TufState, proposal: Proposal, more: list[Keyholder]
) -> int:
    """Signs and installs, or writes the proposal. more: keyholders who sign besides those of the sticks."""
    proposal = proposal.signed(more)
    if args.proposal is not None:
        write_atomically(args.proposal, proposal.to_bytes())
        print(_("{path} : à signer par deux porteurs (`keys sign`), puis `keys install`").format(path=args.proposal))
        return 0
    holders = offline.open_keys(args.offline, of_keyholders(args.passphrases), args.keyholders)
    keys.check_numbers(state.root.signed, holders)
    return _install(config, proposal.signed(holders))


def _sign(args: argparse.Namespace) -> int:
    proposal = Proposal.from_bytes(read_bounded(args.proposal, keys.MAX_PROPOSAL))
    print("\n".join(proposal.describe()))
    holders = offline.open_some(args.offline, of_keyholders(args.passphrases), args.keyholders)
    write_atomically(args.proposal, proposal.signed(holders).to_bytes())
    print(_("signé par : {who}").format(who=", ".join(str(holder.number) for holder in holders)))
    return 0


def _install_file(args: argparse.Namespace, config: Config) -> int:
    return _install(config, Proposal.from_bytes(read_bounded(args.proposal, keys.MAX_PROPOSAL)))


def _install(config: Config, proposal: Proposal) -> int:
    print("\n".join(proposal.describe()))
    install(config, proposal)
    print(_("en vigueur ; fichiers de confiance pour les images : {path}").format(path=config.paths.trust))
    return 0


def install(config: Config, proposal: Proposal) -> None:
    """Files into the repository, then the signer's word, then the metadata, then the trust files for new images."""
    repository = Repository(config.paths.repository)
    for path, data in proposal.files.items():
        repository.add(path, data)
    files = files_of(Signer(config.paths.signer_socket).call("install", proposal=proposal.to_bytes().decode()))
    repository.publish(files)
    repository.give_back()
    state = tufstate.from_files(files)
    write_atomically(config.paths.trust / "tuf-root.json", state.roots[max(state.roots)])
    write_atomically(config.paths.trust / "steering.json", _steering(config, state).to_bytes())


def _sign_orders(args: argparse.Namespace) -> int:
    envelopes = orders.read(read_bounded(args.orders, orders.FILE_MAX))
    for text, count in orders.describe(envelopes).most_common():
        print(_("{n} boîtiers : {text}").format(n=count, text=text))
    holders = offline.open_some(args.offline, of_keyholders(args.passphrases), args.keyholders)
    done = orders.signed(envelopes, holders)
    write_atomically(args.orders, orders.write(done))
    print(_("signé par : {who}").format(who=", ".join(dsse.keyid(holder.public)[:8] for holder in holders)))
    return 0


def _retire(_args: argparse.Namespace, config: Config) -> int:
    done = Signer(config.paths.signer_socket).call("retire-steering")["retired"]
    print(_("l'ancienne clé de pilotage ne signe plus") if done else _("il n'y a qu'une clé de pilotage"))
    return 0
