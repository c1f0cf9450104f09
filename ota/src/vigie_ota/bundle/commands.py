"""`vigie-ota keys` and `vigie-ota bundle`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from vigie_department.signer.files import make_folder, read_bounded, write_atomically
from vigie_department.signer.passphrases import ask_one, new_one
from vigie_ota.bundle import build, certificates, cms, container, verify
from vigie_ota.bundle.manifest import MANIFEST_MAX, Manifest
from vigie_ota.errors import UsageError


def register(subparsers: Any) -> None:
    """Adds both."""
    actions = _group(subparsers, "keys", "the release authority and certificate, offline")
    one = _action(actions, "create", _create, "make both; once")
    one.add_argument("offline", type=Path, help="folder on a stick")
    one.add_argument("--trust", type=Path, help="the department's trust folder, which images take their keys from")
    _passphrases(one, "line 1: authority, line 2: release")
    one = _action(actions, "renew", _renew, "a new release key under the same authority: it ends, or it is lost")
    one.add_argument("offline", type=Path, help="folder with the authority's key")
    _passphrases(one, "line 1: authority, line 2: release")

    actions = _group(subparsers, "bundle", "the file that boxes install")
    one = _action(actions, "build", _build, "from the image build's `bundle/` folder; the same bytes each time")
    one.add_argument("input", type=Path, help="folder with manifest.raucm and the images")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE")
    one.add_argument("--sbom", type=Path, required=True, help="CycloneDX bill of materials")
    one.add_argument("--changelog", type=Path, required=True)
    where = one.add_mutually_exclusive_group(required=True)
    where.add_argument("--offline", type=Path, metavar="DIR", help="folder with release.pem and release.key")
    where.add_argument("--unsigned", action="store_true", help="BUNDLE.body and BUNDLE.manifest, to sign elsewhere")
    _passphrases(one, "last line: release")
    one = _action(actions, "sign", _sign, "sign a manifest, on the machine with the release key")
    one.add_argument("manifest", type=Path)
    one.add_argument("--offline", type=Path, required=True, metavar="DIR", help="with release.pem and release.key")
    _passphrases(one, "last line: release")
    one = _action(actions, "finish", _finish, "put body and signature together")
    one.add_argument("output", type=Path, metavar="BUNDLE")
    one.add_argument("signature", type=Path)
    _keyring(one)
    one = _action(actions, "verify", _verify, "signature, hash tree over every byte, files inside")
    one.add_argument("bundle", type=Path)
    one.add_argument("--json", action="store_true")
    _keyring(one)


def _group(subparsers: Any, name: str, text: str) -> Any:
    return subparsers.add_parser(name, help=text, description=text).add_subparsers(required=True, metavar="ACTION")


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    one.set_defaults(run=run)
    return one


def _passphrases(one: argparse.ArgumentParser, lines: str) -> None:
    one.add_argument("--passphrases", type=Path, metavar="FILE", help=f"{lines}; else asked for")


def _keyring(one: argparse.ArgumentParser) -> None:
    one.add_argument("--keyring", type=Path, required=True, metavar="PEM", help="what boxes know (trust/rauc.pem)")


def _pair(file: Path | None, *, new: bool) -> tuple[str, str]:
    """Passphrases of authority and release key. new: whether the authority's is a new one as well."""
    if file is not None:
        lines = read_bounded(file, 16384).decode("utf-8").splitlines()
        if len(lines) < 2:
            raise UsageError(f"{file}: two lines are expected, authority and release")
        return lines[0], lines[1]
    ask = "Passphrase of the release authority: "
    return new_one(ask, None) if new else ask_one(ask, None), new_one("New passphrase of the release key: ", None)


def _signer(args: argparse.Namespace) -> build.Signer:
    files = certificates.ReleaseFiles(args.offline)
    if args.passphrases is not None:
        text = read_bounded(args.passphrases, 16384).decode("utf-8").splitlines()[-1]
    else:
        text = ask_one("Passphrase of the release key: ", None)
    return build.Signer(files.certificate, files.key, text)


def _create(args: argparse.Namespace) -> int:
    files = certificates.create(args.offline, *_pair(args.passphrases, new=True))
    if args.trust is not None:
        make_folder(args.trust, 0o755)
        write_atomically(args.trust / certificates.KEYRING, files.authority.read_bytes())
        print(f"{args.trust / certificates.KEYRING}: for the images")
    print(f"{files.authority_key}: to the safe; {files.key}: to the machine that signs bundles")
    return 0


def _renew(args: argparse.Namespace) -> int:
    files = certificates.renew(args.offline, *_pair(args.passphrases, new=False))
    until = certificates.load_certificate(files.certificate).not_valid_after_utc
    print(f"{files.certificate}: until {until:%Y-%m-%d}; boxes need nothing")
    return 0


def _body(output: Path) -> Path:
    return output.with_name(output.name + ".body")


def _build(args: argparse.Namespace) -> int:
    papers = {build.SBOM: args.sbom, build.CHANGELOG: args.changelog}
    if args.unsigned:
        unsigned = build.pack(args.input, _body(args.output), papers)
        carried = args.output.with_name(args.output.name + ".manifest")
        write_atomically(carried, unsigned.manifest.to_bytes())
        print(f"{carried}: sign it with `vigie-ota bundle sign`, then `vigie-ota bundle finish`")
        manifest = unsigned.manifest
    else:
        if args.output.exists():
            raise UsageError(f"{args.output}: exists already")
        manifest = build.build(args.input, args.output, papers, _signer(args))
    print(f"{manifest.board} {manifest.version}, manifest {manifest.digest}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    data = read_bounded(args.manifest, MANIFEST_MAX)
    manifest = Manifest.from_bytes(data, str(args.manifest))
    print(f"{manifest.board} {manifest.version}, manifest {manifest.digest}")
    for image in manifest.images:
        print(f"  {image.slot}: {image.size} bytes, {image.sha256}")
    signer = _signer(args)
    made = args.manifest.with_suffix(".cms")
    write_atomically(made, cms.sign(data, signer.certificate, signer.key, signer.passphrase))
    print(made)
    return 0


def _finish(args: argparse.Namespace) -> int:
    body = _body(args.output)
    part = args.output.with_name(f".{args.output.name}.part")
    try:
        container.write(part, body, read_bounded(args.signature, container.SIGNATURE_MAX))
        found = verify.verify(part, args.keyring)
        part.replace(args.output)
    finally:
        part.unlink(missing_ok=True)
    body.unlink()
    print(f"{args.output}: {found.board} {found.version}, manifest {found.manifest.digest}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    found = verify.verify(args.bundle, args.keyring)
    told = found.described()
    if args.json:
        print(
            json.dumps(
                {
                    "board": found.board,
                    "version": str(found.version),
                    "manifest": told.manifest,
                    "length": told.length,
                    "images": {one.slot: {"sha256": one.sha256, "size": one.size} for one in found.manifest.images},
                }
            )
        )
        return 0
    print(f"{found.board} {found.version}: {told.length} bytes, manifest {told.manifest}")
    for image in found.manifest.images:
        reuse = "reuses blocks" if image.adaptive else "fetched whole"
        print(f"  {image.slot}: {image.size} bytes, {reuse}, {image.sha256}")
    return 0
