"""`vigie-ota descriptor`, `sign`, `publish`, `release`, `drill`."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root

from vigie.contract.firmware import DESCRIPTOR_MAX, FirmwareDescriptor, Severity, firmware_path, parse_version
from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.signer import metadata, offline
from vigie_department.signer.files import read_bounded, write_atomically
from vigie_department.signer.passphrases import of_keyholders
from vigie_ota.bundle import verify
from vigie_ota.errors import UsageError
from vigie_ota.publish import descriptor, drill, publishing, request, shown


def register(subparsers: Any) -> None:
    """Adds all of them."""
    one = _command(subparsers, "descriptor", _descriptor, "what a release is, from its bundles")
    one.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="one per board")
    one.add_argument("-o", "--output", type=Path, required=True)
    one.add_argument("--floor", help="once it is good, nothing below may be installed")
    one.add_argument("--requires", help="the oldest version that may install it")
    one.add_argument("--critical", action="store_true", help="the mairie cannot postpone it")
    one.add_argument("--earliest", help="not before, UTC: 2026-12-01T06:00")
    one.add_argument("--note-fr", required=True, help="for the mairie's page")
    one.add_argument("--note-en", required=True)
    _keyring(one)

    actions = subparsers.add_parser("sign", help="the ceremony of two keyholders, by USB").add_subparsers(
        required=True, metavar="ACTION"
    )
    one = _command(actions, "request", _request, "what keyholders are asked to sign; on the server")
    one.add_argument("output", type=Path, metavar="REQUEST")
    one.add_argument("descriptors", type=Path, nargs="*", metavar="DESCRIPTOR")
    one.add_argument("--withdraw", action="append", default=[], metavar="VERSION", help="no box installs it any more")
    _department(one)
    one = _command(actions, "show", _show_request, "what a request would change")
    one.add_argument("request", type=Path)
    one = _command(actions, "add", _sign, "sign it, on a machine without a network")
    one.add_argument("request", type=Path)
    one.add_argument("--offline", type=Path, required=True, metavar="DIR", help="the stick, with keyholder-N.pem")
    one.add_argument("--keyholders", type=_numbers, default=(), metavar="N,N", help="default: all that are there")
    one.add_argument("--passphrases", type=Path, metavar="FILE", help="five lines; else asked for")
    one.add_argument("-o", "--output", type=Path, help="default: beside the request")

    one = _command(subparsers, "publish", _publish, "check everything; then bundles, descriptor, metadata")
    one.add_argument("request", type=Path)
    one.add_argument("signatures", type=Path, nargs="+", metavar="SIGNATURES", help="files of `vigie-ota sign add`")
    one.add_argument("--bundles", type=Path, nargs="*", default=[], metavar="BUNDLE")
    _keyring(one)
    _department(one)

    one = _command(subparsers, "drill", _drill, "yearly: can the sticks be read, and how many losses are left")
    one.add_argument("root_json", type=Path, metavar="ROOT", help="trust/tuf-root.json")
    one.add_argument("sticks", type=Path, nargs="+", metavar="DIR", help="folders with keyholder-N.pem")
    one.add_argument("--passphrases", type=Path, metavar="FILE", help="five lines; else asked for")
    one.add_argument("--release", type=Path, metavar="DIR", help="folder with the release certificates")

    actions = subparsers.add_parser("release", help="what is published").add_subparsers(required=True, metavar="ACTION")
    one = _command(actions, "show", _show, "releases as boxes find them; exit 1 when one could not be installed")
    one.add_argument("version", nargs="?")
    one.add_argument("--json", action="store_true")
    _department(one)


def _command(subparsers: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    one.set_defaults(run=run)
    return one


def _keyring(one: argparse.ArgumentParser) -> None:
    one.add_argument("--keyring", type=Path, required=True, metavar="PEM", help="what boxes know (trust/rauc.pem)")


def _department(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", type=Path, help="department.toml")
    one.add_argument("--root", type=Path, help="folder that holds everything (trials, lab)")


def _config(args: argparse.Namespace) -> Config:
    return configuration.load(args.config, root=args.root)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers separated by commas are expected") from e


def _moment(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError as e:
        raise UsageError(f"{text}: a moment such as 2026-12-01T06:00 is expected") from e


def _descriptor(args: argparse.Namespace) -> int:
    made = descriptor.describe(
        [verify.verify(path, args.keyring) for path in args.bundles],
        floor=None if args.floor is None else parse_version(args.floor),
        requires=None if args.requires is None else parse_version(args.requires),
        severity=Severity.CRITICAL if args.critical else Severity.NORMAL,
        earliest=_moment(args.earliest),
        notes={"fr": args.note_fr, "en": args.note_en},
    )
    write_atomically(args.output, made.to_bytes())
    print(f"{args.output}: {made.version} for {', '.join(sorted(made.bundles))}")
    return 0


def _request(args: argparse.Namespace) -> int:
    config = _config(args)
    state = publishing.in_force(config)
    added = [FirmwareDescriptor.from_bytes(read_bounded(path, DESCRIPTOR_MAX)) for path in args.descriptors]
    made = request.make(
        state,
        publishing.published(config, state),
        add=added,
        remove=[firmware_path(parse_version(text)) for text in args.withdraw],
    )
    write_atomically(args.output, made.to_bytes())
    print("\n".join(request.judge(made).describe()))
    print(f"{args.output}: to two keyholders (`vigie-ota sign add`), each on a machine without a network")
    return 0


def _read(path: Path) -> tuple[request.Request, request.Judged]:
    found = request.Request.from_bytes(read_bounded(path, request.REQUEST_MAX))
    return found, request.judge(found)


def _show_request(args: argparse.Namespace) -> int:
    print("\n".join(_read(args.request)[1].describe()))
    return 0


def _sign(args: argparse.Namespace) -> int:
    _found, judged = _read(args.request)
    print("\n".join(judged.describe()))
    holders = offline.open_some(args.offline, of_keyholders(args.passphrases), args.keyholders)
    data = request.sign(judged, holders)
    who = "-".join(str(holder.number) for holder in holders)
    output = args.output or args.request.with_name(f"{args.request.stem}.keyholder-{who}.json")
    write_atomically(output, data)
    print(f"{output}: back to the server, for `vigie-ota publish`")
    return 0


def _publish(args: argparse.Namespace) -> int:
    config = _config(args)
    found, judged = _read(args.request)
    signatures = {str(path): read_bounded(path, request.SIGNATURES_MAX) for path in args.signatures}
    proposal = request.assemble(found, judged, signatures)
    bundles = [verify.verify(path, args.keyring) for path in args.bundles]
    done = publishing.publish(config, found, judged, proposal, bundles, args.keyring)
    for path in done.bundles:
        print(path)
    what = ", ".join(done.versions) or "withdrawal"
    print(f"{what}: was published already, complete again" if done.again else f"{what}: published")
    return 0


def _drill(args: argparse.Namespace) -> int:
    root = metadata.parse(Root, read_bounded(args.root_json, metadata.MAX_METADATA), str(args.root_json))
    ask = of_keyholders(args.passphrases)
    now = datetime.now(UTC)
    report = drill.sticks(root, [holder for folder in args.sticks for holder in offline.open_some(folder, ask)], now)
    print("\n".join(report.lines()))
    due = False
    for name, until, soon in drill.ends(root, args.release, now):
        due = due or soon
        print(f"{name}: until {until:%Y-%m-%d}{', RENEW NOW' if soon else ''}")
    return 0 if report.good and not due else 1


def _show(args: argparse.Namespace) -> int:
    found = shown.published(_config(args).paths.repository)
    if args.version is not None:
        path = firmware_path(parse_version(args.version))
        found = [one for one in found if one.path == path]
        if not found:
            raise UsageError(f"{args.version}: is not published")
    if args.json:
        print(json.dumps([one.to_dict() for one in found]))
    else:
        print("\n".join(line for one in found for line in one.lines()) or "no release yet")
    return 1 if any(one.problems for one in found) else 0
