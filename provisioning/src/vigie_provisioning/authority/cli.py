"""`vigie-authority`: the daemon, and the commands that speak to it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vigie_provisioning.authority import ca as authority
from vigie_provisioning.authority import config as configuration
from vigie_provisioning.authority import setup
from vigie_provisioning.authority.client import Admin
from vigie_provisioning.authority.daemon import serve
from vigie_provisioning.commands import moment, run, secret, show, table, who
from vigie_provisioning.errors import UsageError
from vigie_provisioning.files import read_bounded, write_atomic
from vigie_provisioning.register import REGISTER_MAX


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `vigie-authority`."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="vigie-authority", description="Enrolment authority of a department.")
    top.add_argument("--config", type=Path, default=configuration.DEFAULT_FILE, help="authority.toml")
    top.add_argument("--json", action="store_true", help="answer in JSON")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, help_: str, *arguments: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        for argument in arguments:
            sub.add_argument(argument)
        sub.set_defaults(run=command)
        return sub

    daemon = add("serve", _serve, "run the authority")
    daemon.add_argument("--ready", type=Path, help="file written once it listens")
    daemon.add_argument("--accept-clock", action="store_true", help="the clock is right, whatever it was before")
    add("import", _import, "bring a register of purchased boxes in", "register").add_argument(
        "--new", action="store_true", help="accept a register that was never imported before"
    )
    add("boxes", _boxes, "list the boxes").add_argument("--state", help="only those in this state")
    add("show", _show, "show a box, its certificates and its last events", "box")
    for name, command, help_ in (
        ("release", _release, "let a box enrol once without the right join state; lifts any block"),
        ("revoke", _revoke, "revoke what a box has, and block it"),
        ("block", _block, "forbid a box to speak; its certificates stay"),
        ("unblock", _unblock, "lift a block or a revocation"),
    ):
        sub = add(name, command, help_, "box")
        sub.add_argument("--note", default="", help="why, for the log")
        sub.add_argument("--operator", default=who(), help="for the log (default: %(default)s)")
    events = add("events", _events, "print the log")
    events.add_argument("--after", type=int, default=0, help="only events with a larger number")
    events.add_argument("--limit", type=int, default=1000)
    add("unknown", _unknown, "serials that were refused")
    add("crl", _crl, "publish the revocation lists and print them")
    add("status", _status, "counts, and when keys end")
    server = add("issue-server", _issue_server, "make or renew the certificate of a server", "name")
    server.add_argument("names", nargs="*", help="its DNS names; none: those it has")
    server.add_argument("--folder", type=Path, help="where NAME.pem and NAME.key are (default: the public folder)")
    server.add_argument("--days", type=int)
    server.add_argument("--group", default="", help="group that may read the key")
    server.add_argument("--new-key", action="store_true", help="another key too")
    server.add_argument("--if-due", action="store_true", help="only when two thirds of its life are over")
    rotate = add("rotate", _rotate, "a new key below the root; restart the authority afterwards")
    rotate.add_argument("role", choices=authority.ROLES)
    rotate.add_argument("--offline", type=Path, required=True, help="folder of the root keys")
    rotate.add_argument("--root", type=int, default=1, help="number of the root that signs")
    backup = add("backup", _backup, "copy keys, store and configuration", "folder")
    backup.description = "The copy is as secret as the original."
    return top


def _config(args: argparse.Namespace) -> configuration.Config:
    path: Path = args.config
    return configuration.load(path)


def _admin(args: argparse.Namespace) -> Admin:
    return Admin(_config(args).admin_socket)


def _serve(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    config = _config(args)
    file: Path | None = args.ready

    def ready() -> None:
        logging.getLogger("vigie.authority").info("listens at %s", config.http_socket)
        if file is not None:
            write_atomic(file, b"ready\n")

    asyncio.run(serve(config, ready=ready, accept_clock=args.accept_clock))
    return 0


def _import(args: argparse.Namespace) -> int:
    text = read_bounded(Path(args.register), REGISTER_MAX)
    done = _admin(args).import_register(text.decode("ascii", "replace"), args.register, new=args.new)

    def say(result: dict[str, Any]) -> str:
        torn = f"; {result['torn']} bytes at its end are part of a line and were left out" if result["torn"] else ""
        return f"{args.register}: {result['added']} boxes added, {result['known']} known{torn}"

    return show(args, done, say)


def _boxes(args: argparse.Namespace) -> int:
    rows = [row for row in _admin(args).boxes() if args.state in (None, row["state"])]
    columns = ("serial", "box", "state", "model", "lot", "claim_id", "software")
    return show(args, rows, lambda result: table(result, columns))


def _show(args: argparse.Namespace) -> int:
    def say(result: dict[str, Any]) -> str:
        head = [f"{name:14} {value}" for name, value in result.items() if name not in ("certificates", "events")]
        certificates = [
            row | {"from": moment(row["not_before"]), "until": moment(row["not_after"])}
            for row in result["certificates"]
        ]
        lines = ["\n".join(head), "", table(certificates, ("number", "state", "from", "until", "reason")), ""]
        return "\n".join([*lines, _log(result["events"])])

    return show(args, _admin(args).show(args.box), say)


def _release(args: argparse.Namespace) -> int:
    done = _admin(args).release(args.box, args.operator, args.note)
    return show(args, done, lambda r: f"{r['serial']} ({r['box']}) may enrol once; it was {r['was'] or 'not blocked'}")


def _revoke(args: argparse.Namespace) -> int:
    done = _admin(args).revoke(args.box, args.operator, args.note)

    def say(result: dict[str, Any]) -> str:
        return f"{result['serial']} ({result['box']}): {len(result['cert_serials'])} certificates revoked, blocked"

    return show(args, done, say)


def _block(args: argparse.Namespace) -> int:
    done = _admin(args).block(args.box, args.operator, args.note)
    return show(args, done, lambda r: f"{r['serial']} ({r['box']}) is blocked")


def _unblock(args: argparse.Namespace) -> int:
    done = _admin(args).unblock(args.box, args.operator, args.note)
    return show(args, done, lambda r: f"{r['serial']} ({r['box']}) is no longer blocked")


def _events(args: argparse.Namespace) -> int:
    return show(args, _admin(args).events(args.after, args.limit), _log)


def _unknown(args: argparse.Namespace) -> int:
    def say(rows: list[dict[str, Any]]) -> str:
        rows = [row | {"last": moment(row["last"])} for row in rows]
        return table(rows, ("serial", "why", "count", "last", "source"))

    return show(args, _admin(args).unknown(), say)


def _crl(args: argparse.Namespace) -> int:
    return show(args, _admin(args).crl(), str.rstrip)


def _status(args: argparse.Namespace) -> int:
    def say(result: dict[str, Any]) -> str:
        keys = [row | {"until": moment(row["not_after"])} for row in result["keys"]]
        counts = [f"{name:14} {value}" for name, value in result.items() if name not in ("keys", "roots", "now")]
        return "\n".join([*counts, "", table(keys, ("name", "until"))])

    return show(args, _admin(args).status(), say)


def _issue_server(args: argparse.Namespace) -> int:
    config = _config(args)
    folder: Path = args.folder or config.public
    file = folder / f"{args.name}.pem"
    names = tuple(args.names) or (setup.names_of(file) if file.exists() else ())
    if not names and not file.exists():
        raise UsageError(f"{file}: there is none yet; say which DNS names it is for")
    if args.if_due and file.exists() and not setup.due(file):
        return show(args, {"file": str(file), "renewed": False}, lambda r: f"{r['file']}: not due")
    server = setup.Server(args.name, names, args.group)
    made = setup.issue(Admin(config.admin_socket), folder, server, days=args.days, new_key=args.new_key)
    until = int(made.not_valid_after_utc.timestamp())
    result = {"file": str(file), "renewed": True, "not_after": until}
    return show(args, result, lambda r: f"{r['file']}: good until {moment(until)}; reload the server")


def _rotate(args: argparse.Namespace) -> int:
    config = _config(args)
    offline: Path = args.offline
    phrase = secret("VIGIE_ROOT_PASSPHRASE", f"Passphrase of root {args.root}")
    made = authority.rotate(config.places, offline, args.role, passphrase=phrase, root=args.root)
    name = getattr(made, args.role)[-1].name
    return show(args, {"name": name}, lambda r: f"{r['name']} was made; restart the authority, reload the servers")


def _backup(args: argparse.Namespace) -> int:
    digests = setup.backup(_config(args), args.config, Path(args.folder))
    write_atomic(Path(args.folder) / "digests.json", json.dumps(digests, indent=1).encode(), 0o600)
    return show(args, digests, lambda r: f"{args.folder}: {len(r)} files; keep it as safe as the keys in it")


def _log(rows: list[dict[str, Any]]) -> str:
    rows = [row | {"at": moment(row["at"]), "detail": json.dumps(row["detail"], ensure_ascii=False)} for row in rows]
    return table(rows, ("id", "at", "kind", "serial", "box", "detail"))


if __name__ == "__main__":
    sys.exit(main())
