"""`vigie base delta|patch|candidate|renumber|check`: files made from base files, for whoever publishes them."""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

from vigie.cli import output
from vigie.errors import BaseError, UsageError
from vigie.i18n import _

CHUNK = 1 << 20


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands to those of `vigie base`."""
    text = _("écrire ce qui change d'une base à la suivante (.vgd)")
    delta = commands.add_parser("delta", help=text, description=text, parents=[output.common()])
    _files(delta, _("ANCIENNE"), _("NOUVELLE"))
    delta.set_defaults(run=_delta)

    text = _("refaire une base à partir de la précédente et de ce qui change")
    patch = commands.add_parser("patch", help=text, description=text, parents=[output.common()])
    _files(patch, _("ANCIENNE"), "DELTA")
    patch.set_defaults(run=_patch)

    text = _("une base à l'essai : la base publiée, et ce que la nouvelle ajoute, seulement observé")
    candidate = commands.add_parser("candidate", help=text, description=text, parents=[output.common()])
    _files(candidate, _("PUBLIÉE"), _("NOUVELLE"))
    candidate.add_argument("--serial", type=_serial, required=True, metavar="N", help=_("version de la base à l'essai"))
    candidate.set_defaults(run=_candidate)

    text = _("la même base sous une autre version, pour revenir en arrière")
    renumber = commands.add_parser("renumber", help=text, description=text, parents=[output.common()])
    renumber.add_argument("old", type=Path, metavar="BASE")
    renumber.add_argument("-o", "--output", type=Path, required=True, metavar=_("FICHIER"))
    renumber.add_argument("--serial", type=_serial, required=True, metavar="N", help=_("nouvelle version"))
    renumber.set_defaults(run=_renumber)

    text = _("dire si un boîtier qui a une base en accepterait une autre")
    check = commands.add_parser("check", help=text, description=text, parents=[output.common()])
    check.add_argument("old", type=Path, metavar=_("ANCIENNE"))
    check.add_argument("new", type=Path, metavar=_("NOUVELLE"))
    check.set_defaults(run=_check)


def _files(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    parser.add_argument("old", type=Path, metavar=old)
    parser.add_argument("new", type=Path, metavar=new)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=_("FICHIER"), help=_("fichier à écrire"))


def _serial(text: str) -> int:
    """A version. An argparse type."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 63:
        raise argparse.ArgumentTypeError(_("version : un nombre entier positif"))
    return int(text)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise BaseError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _written(args: argparse.Namespace, data: bytes, **more: Any) -> dict[str, Any]:
    from vigie.filter.base.basefile import write_atomically

    write_atomically(args.output, data)
    return {"file": str(args.output), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}


def _delta(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import open_base
    from vigie.filter.base.deltaformat import pack_delta, unpack_delta
    from vigie.filter.base.filedelta import kernel_delta, make_file_delta, patch_file

    with open_base(args.old) as old, open_base(args.new) as new:
        data = pack_delta(make_file_delta(old, new))
        again = unpack_delta(data, str(args.output))
        # Refused here when it does not lead there. Only the packing may differ, after an update of the zstd library.
        identical = patch_file(old, again) == args.new.read_bytes()
        counts = kernel_delta(again).counts()
    changes = sum(sum(kind.values()) for kind in counts.values())
    ends = {"from": again.from_serial, "to": again.to_serial}
    said = _written(args, data, changes=changes, identical=identical, **ends, **counts)
    text = _("{path} : de la base {old} à la base {new}, {changes} changements, {size} octets").format(
        path=args.output, old=again.from_serial, new=again.to_serial, changes=changes, size=len(data)
    )
    output.emit(args, said, text)
    return 0


def _patch(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import open_base
    from vigie.filter.base.deltaformat import load_delta
    from vigie.filter.base.filedelta import patch_file

    delta = load_delta(args.new)
    with open_base(args.old) as old:
        data = patch_file(old, delta)
    said = _written(args, data, serial=delta.to_serial, version=delta.to_serial, content=delta.to_content)
    _tell(args, said, delta.to_serial)
    return 0


def _candidate(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import load_base, pack_base
    from vigie.filter.base.derive import candidate

    released, new = load_base(args.old), load_base(args.new)
    base = candidate(released, new, args.serial, int(time.time()))
    data = pack_base(base)
    added = len(base.v4) + len(base.v6) + len(base.names) - len(released.v4) - len(released.v6) - len(released.names)
    _tell(args, _written(args, data, serial=args.serial, version=args.serial, added=added), args.serial)
    return 0


def _renumber(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import open_base
    from vigie.filter.base.derive import renumbered

    with open_base(args.old) as old:
        old.verify()
        data = renumbered(old, args.serial, int(time.time()))
    _tell(args, _written(args, data, serial=args.serial, version=args.serial), args.serial)
    return 0


def _tell(args: argparse.Namespace, said: dict[str, Any], serial: int) -> None:
    text = _("{path} : base {serial}, {size} Ko").format(
        path=args.output, serial=serial, size=-(-int(said["bytes"]) // 1024)
    )
    output.emit(args, said, text)


def _check(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import load_base
    from vigie.filter.base.limits import compare

    if args.old.resolve() == args.new.resolve():
        raise UsageError(_("deux fois le même fichier : il n'y a rien à comparer"))
    old, new = load_base(args.old, sources=False), load_base(args.new, sources=False)
    before, after, more, refused = compare(old, new)
    percent = round(100 * more.v4 / before.v4, 2) if before.v4 else (0.0 if not more.v4 else 100.0)
    data = {
        "ok": not refused, "refusals": [{"code": r.code, "text": r.text} for r in refused],
        "covered": {
            "old4": before.v4, "new4": after.v4, "added4": more.v4, "added_percent": percent,
            "old6": before.v6, "new6": after.v6, "added6": more.v6,
        },
        "entries": {"old": before.entries, "new": after.entries},
    }  # fmt: skip
    lines = [f"! [{r.code}] {r.text}" for r in refused] or [_("un boîtier l'accepterait")]
    lines.append(
        _(
            "adresses IPv4 bloquées : {old}, puis {new} ({percent} % de plus) ; indicateurs : {before}, puis {after}"
        ).format(old=before.v4, new=after.v4, percent=percent, before=before.entries, after=after.entries)
    )
    output.emit(args, data, "\n".join(lines))
    return 0 if not refused else 1
