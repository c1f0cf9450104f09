"""`vigie-factory`: the flashing station, and what can be done by hand instead."""

from __future__ import annotations

import argparse
import base64
import binascii
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import strictjson
from vigie.contract.fields import Fields
from vigie.contract.identity import MODEL, SERIAL
from vigie_provisioning.authority.checks import p256, spki
from vigie_provisioning.commands import run, secret, show, who
from vigie_provisioning.errors import ProvisioningError, UsageError
from vigie_provisioning.factory import book, identity, stationcli
from vigie_provisioning.files import read_bounded, write_atomic
from vigie_provisioning.register import REGISTER_MAX, raw_public, read_operators, read_register

FROM_ENVIRONMENT = "VIGIE_OPERATOR_PASSPHRASE"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `vigie-factory`."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="vigie-factory", description="Identities and the register of purchased boxes.")
    top.add_argument("--json", action="store_true", help="answer in JSON")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    key = commands.add_parser("operator-key", help="make an operator's key and print the line of the allow-list")
    key.add_argument("key", type=Path, help="file of the private key")
    key.add_argument("--operator", default=who())
    key.set_defaults(run=_operator_key)

    made = commands.add_parser("identity", help="make a box's identity: key and box.json")
    made.add_argument("folder", type=Path)
    made.add_argument("--serial", required=True)
    made.add_argument("--model", required=True)
    made.add_argument("--lot", default="")
    made.add_argument("--image-digest", default="", help="hex SHA-256 of the image")
    made.add_argument("--claim-id", help="of a label that was printed before")
    made.set_defaults(run=_identity)

    register = commands.add_parser("register", help="add a box to the register, or verify it")
    register.add_argument("register", type=Path, help="the register; `verify FILE` checks one")
    register.add_argument("file", type=Path, nargs="?", help=argparse.SUPPRESS)
    register.add_argument("--department", help="domain of the department, for a new register")
    register.add_argument("--identity", type=Path, help="folder with identity.key and box.json")
    register.add_argument("--public", type=Path, help="instead of identity.key: PEM of the public key")
    register.add_argument("--operator-key", type=Path)
    register.add_argument("--operator", default=who())
    register.add_argument("--operators", type=Path, help="verify: the allow-list; without it only the chain is checked")
    register.set_defaults(run=_register)

    stationcli.add_parsers(commands, _operator)
    return top


def _operator_key(args: argparse.Namespace) -> int:
    path: Path = args.key
    if path.exists():
        raise UsageError(f"{path}: is there already; keys are not overwritten")
    key = Ed25519PrivateKey.generate()
    phrase = secret(FROM_ENVIRONMENT, "Passphrase of the new key")
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if phrase:
        protection = serialization.BestAvailableEncryption(phrase.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    write_atomic(path, pem, 0o600)
    line = {"name": args.operator, "public": raw_public(key).hex(), "since": int(time.time())}
    return show(args, line, lambda r: f'{{"name": "{r["name"]}", "public": "{r["public"]}", "since": {r["since"]}}}')


def _identity(args: argparse.Namespace) -> int:
    made = identity.create(
        args.folder,
        serial=args.serial,
        model=args.model,
        lot=args.lot,
        image=args.image_digest,
        claim=args.claim_id,
    )
    result = {
        "serial": made.serial,
        "box": made.box,
        "claim_id": made.claim_id,
        "model": made.model,
        "lot": made.lot,
        "public": base64.b64encode(made.public).decode(),
    }
    return show(args, result, lambda r: f"{r['serial']}: box {r['box']}, claim id {r['claim_id']}")


def _register(args: argparse.Namespace) -> int:
    if str(args.register) == "verify" and args.file is not None:
        return _verify(args)
    if args.file is not None:
        raise UsageError(f"{args.file}: one register at a time")
    if args.identity is None or args.operator_key is None:
        raise UsageError("--identity and --operator-key are needed")
    path: Path = args.register
    article = _article(args.identity, args.public)
    department = args.department or _department_of(path)
    done = book.append(path, _operator(args.operator_key), args.operator, department, article, int(time.time()))
    entry = done.entry
    result = {"n": entry.n, "serial": entry.serial, "box": entry.box, "claim_id": entry.claim_id}

    def say(_result: Any) -> str:
        note = f" ({done.mended})" if done.mended else ""
        return f"{path}: box {entry.n}, {entry.serial}, {'was registered before' if done.known else 'registered'}{note}"

    return show(args, result | {"known": done.known, "mended": done.mended}, say)


def _verify(args: argparse.Namespace) -> int:
    operators = None if args.operators is None else read_operators(args.operators)
    register = read_register(read_bounded(args.file, REGISTER_MAX), operators, args.file)
    result = {
        "register": register.id,
        "department": register.department,
        "boxes": len(register.entries),
        "head": register.head,
        "torn": len(register.torn),
        "signatures": operators is not None,
    }

    def say(r: dict[str, Any]) -> str:
        torn = f"; its last line is not whole ({r['torn']} bytes), the next registration mends it" if r["torn"] else ""
        checked = "chain and signatures hold" if r["signatures"] else "the chain holds (signatures: --operators)"
        return f"{args.file}: {r['boxes']} boxes, {checked}{torn}"

    return show(args, result, say)


def _article(folder: Path, public: Path | None) -> book.Article:
    """What is to be registered, from an identity folder."""
    path = folder / "box.json"
    f = Fields("box", strictjson.loads(read_bounded(path, 64 * 1024), what=str(path)))
    key = _public_key(folder / "identity.key") if public is None else _public_key(public)
    image = f.text("image", 64) if f.has("image") else ""
    lot = f.text("lot", 48) if f.has("lot") else ""
    return book.Article(
        f.text("serial", 48, SERIAL), f.text("claim_id", 20), key, image, lot, f.text("model", 32, MODEL)
    )


def _public_key(path: Path) -> bytes:
    """DER public key from a PEM file with the private key or the public one."""
    data = read_bounded(path, 64 * 1024)
    try:
        if b"PRIVATE KEY" in data:
            return spki(p256(serialization.load_pem_private_key(data, None).public_key()))
        return spki(p256(serialization.load_pem_public_key(data)))
    except (ValueError, TypeError) as e:
        raise ProvisioningError(f"{path}: not a key in PEM; `vigie-factory identity` makes one") from e


def _department_of(path: Path) -> str:
    if not path.exists() or not path.stat().st_size:
        raise UsageError(f"{path}: there is no register yet; name the department's domain with --department")
    return read_register(read_bounded(path, REGISTER_MAX), None, path).department


def _operator(path: Path) -> Ed25519PrivateKey:
    phrase = None
    data = read_bounded(path, 64 * 1024)
    if b"ENCRYPTED" in data:
        phrase = secret(FROM_ENVIRONMENT, f"Passphrase of {path}")
    try:
        key = serialization.load_pem_private_key(data, phrase.encode() if phrase else None)
    except (ValueError, TypeError, binascii.Error) as e:
        raise ProvisioningError(f"{path}: wrong passphrase, or not an operator's key") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise ProvisioningError(f"{path}: an Ed25519 key is expected; `vigie-factory operator-key` makes one")
    return key


if __name__ == "__main__":
    sys.exit(main())
