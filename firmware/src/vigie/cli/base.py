"""`vigie base`: compile feeds into a base, look at one, compare two, put one into force.

What makes files from files (deltas, candidates) is in `base_files`.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from vigie.cli import base_files, output
from vigie.errors import UsageError
from vigie.i18n import _, ngettext

SAMPLES = 10


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `base` and its subcommands."""
    text = _("compiler, comparer, appliquer une base toxique")
    parser = subparsers.add_parser("base", help=text, description=text)
    commands = parser.add_subparsers(dest="base_command", metavar=_("COMMANDE"), required=True)

    text = _("compiler des listes en une base")
    compile_ = commands.add_parser("compile", help=text, description=text, parents=[output.common()])
    compile_.add_argument(
        "feed", nargs="*", type=Path, metavar=_("LISTE"), help=_("fichier, dossier, ou jeu de listes (.yaml)")
    )
    compile_.add_argument("-o", "--output", type=Path, required=True, metavar="BASE", help=_("base à écrire"))
    compile_.add_argument("--feeds", type=Path, action="append", default=[], metavar="YAML", help=_("jeu de listes"))
    compile_.add_argument(
        "--allowlists", type=Path, action="append", default=[], metavar=_("DOSSIER"),
        help=_("listes de sites et d'adresses très fréquentés, à protéger (MISP warning lists)"),
    )  # fmt: skip
    compile_.add_argument("--suffixes", type=Path, metavar=_("FICHIER"), help=_("liste des suffixes publics (PSL)"))
    compile_.add_argument(
        "--resolve", action="store_true", help=_("protéger aussi les adresses actuelles des noms protégés (DNS)")
    )
    compile_.add_argument(
        "--documentation", action="store_true", help=_("accepter les adresses de documentation (démonstrations)")
    )
    compile_.add_argument(
        "--for-boxes", action="store_true",
        help=_("laisser les plages plus larges que ce qu'un boîtier accepte (/16 en IPv4, /32 en IPv6)"),
    )  # fmt: skip
    compile_.add_argument("--serial", type=int, metavar="N", help=_("version (défaut : l'heure, en secondes)"))
    compile_.add_argument(
        "--strict", action="store_true", help=_("échouer si une liste est refusée, au lieu de continuer sans elle")
    )
    compile_.set_defaults(run=_compile)

    text = _("ce que contient une base")
    show = commands.add_parser("show", help=text, description=text, parents=[output.common()])
    show.add_argument("base", nargs="?", type=Path, metavar="BASE", help=_("fichier (défaut : la base en service)"))
    show.add_argument("--sources", action="store_true", help=_("aussi la provenance et la licence de chaque liste"))
    show.set_defaults(run=_show)

    text = _("ce qui change d'une base à une autre")
    diff = commands.add_parser("diff", help=text, description=text, parents=[output.common()])
    diff.add_argument("old", type=Path, metavar=_("ANCIENNE"))
    diff.add_argument("new", type=Path, metavar=_("NOUVELLE"))
    diff.set_defaults(run=_diff)

    text = _("mettre une base en service")
    apply = commands.add_parser("apply", help=text, description=text, parents=[output.common()])
    apply.add_argument("base", type=Path, metavar="BASE")
    apply.add_argument(
        "--image", type=Path, metavar=_("FICHIER"),
        help=_("écrire l'image que charge le démarrage, sans toucher au filtrage en cours"),
    )  # fmt: skip
    apply.add_argument(
        "--force", action="store_true", help=_("passer outre les limites du boîtier (root seulement)")
    )  # fmt: skip
    apply.set_defaults(run=_apply)
    base_files.add_commands(commands)
    return parser


def _compile(args: argparse.Namespace) -> int:
    # Imported here: `base show` on a box needs neither the readers nor the protections.
    from vigie.filter.base import allowlists, lists, protect, resolve, suffixes
    from vigie.filter.base.basefile import write_base
    from vigie.filter.base.compile import compile_feeds
    from vigie.filter.base.feeds import feeds_of

    paths = [*args.feed, *args.feeds]
    if not paths:
        raise UsageError(_("aucune liste : donnez des fichiers, un dossier ou --feeds JEU.yaml"))
    now = int(time.time())
    if args.serial is not None and not 0 <= args.serial < 1 << 64:
        raise UsageError(_("--serial : un nombre positif de 64 bits au plus"))
    start = time.perf_counter()
    never = lists.never_block()
    protection = protect.build(
        lists.built_in(), never,
        allowlists=allowlists.load(*args.allowlists) if args.allowlists else None,
        suffixes=suffixes.Suffixes.load(args.suffixes) if args.suffixes else None,
        resolved=resolve.resolve(protect.names_to_resolve(never), resolve.system_lookup()) if args.resolve else None,
        documentation=not args.documentation,
    )  # fmt: skip
    base, report = compile_feeds(
        feeds_of(paths), protection, serial=now if args.serial is None else args.serial, created=now,
        for_boxes=args.for_boxes,
    )  # fmt: skip
    if report.refused and args.strict:
        reasons = "".join(f"\n  {r.path}: {r.reason}" for r in report.refused)
        raise UsageError(_("listes refusées, aucune base écrite :{reasons}").format(reasons=reasons))
    size = write_base(base, args.output)
    data = {
        "base": str(args.output), "serial": base.serial, "bytes": size,
        "seconds": round(time.perf_counter() - start, 3), **report.to_json(),
    }  # fmt: skip
    output.emit(args, data, _compiled_text(report, args.output, size))
    return 0


def _compiled_text(report: Any, path: Path, size: int) -> str:
    from vigie.filter.base.compile import SHOWN

    rows = [
        [r.feed.name, r.format, _number(r.v4 + r.v6), _number(r.names), str(r.tally.bad), str(r.tally.warned)]
        for r in report.feeds
    ]
    headers = [_("liste"), _("format"), _("adresses"), _("noms"), _("refusées"), _("douteuses")]
    lines = [output.table(headers, rows), ""]
    for refusal in report.refused:
        lines.append(_("liste refusée : {feed} ({reason})").format(feed=refusal.feed, reason=refusal.reason))
    bad = [(r, note) for r in report.feeds for note in r.tally.bad_notes]
    for r, note in bad[:SHOWN]:
        lines.append(_("ligne refusée : {where}").format(where=r.describe(note)))
    total_bad = sum(r.tally.bad for r in report.feeds)
    if total_bad > SHOWN:
        lines.append(_("… et {n} autres lignes refusées (--json les donne)").format(n=_number(total_bad - SHOWN)))
    by = report.protected_by()
    for protection, count in by.most_common(SHOWN):
        example = next(p for p in report.protected if p.by == protection)
        lines.append(
            _("protégé : {count} × {by} ({why}), comme {indicator} dans {feed}:{line}").format(
                count=_number(count),
                by=protection,
                why=example.why,
                indicator=example.indicator,
                feed=example.feed,
                line=example.line,
            )
        )
    if len(by) > SHOWN:
        rest = sum(by.values()) - sum(count for _by, count in by.most_common(SHOWN))
        lines.append(_("… et {n} autres entrées protégées (--json les donne)").format(n=_number(rest)))
    if report.below_parent:
        lines.append(_("{n} noms déjà couverts par un nom au-dessus").format(n=_number(report.below_parent)))
    for feed, count in report.too_wide.items():
        lines.append(_("{feed} : {n} plages limitées à un port trop larges, laissées").format(feed=feed, n=count))
    for feed, count in report.too_short.items():
        lines.append(_("{feed} : {n} plages plus larges que ce qu'un boîtier accepte, laissées").format(
            feed=feed, n=count
        ))  # fmt: skip
    lines += [
        "",
        _("{path} : {v4} plages IPv4, {v6} plages IPv6, {names} noms, {size} Ko").format(
            path=path,
            v4=_number(report.addresses4),
            v6=_number(report.addresses6),
            names=_number(report.names),
            size=_number(-(-size // 1024)),
        ),
    ]
    return "\n".join(lines)


def _show(args: argparse.Namespace) -> int:
    if args.base is None:
        from vigie.filter import client

        answer = client.call(args.socket, "base-show")
        output.emit(args, answer, _running_text(answer))
        return 0
    from vigie.cli.base_files import file_digest
    from vigie.filter.base.basefile import open_base
    from vigie.filter.base.model import FLAG_CANDIDATE

    with open_base(args.base) as file:
        base, content = file.read(texts=False), file.content()
    feeds = [
        {
            "name": f.feed.name, "category": f.feed.category.name.lower(), "direction": f.feed.direction.name.lower(),
            "action": f.feed.action.name.lower(), "source": f.feed.source, "licence": f.feed.licence,
            "redistributable": f.feed.redistributable, "v4": f.v4, "v6": f.v6, "names": f.names,
            "bad_lines": f.bad_lines, "protected": f.protected,
        }
        for f in base.feeds
    ]  # fmt: skip
    data: dict[str, Any] = {
        "base": str(args.base), "serial": base.serial, "version": base.serial, "created": base.created,
        "flags": base.flags, "candidate": bool(base.flags & FLAG_CANDIDATE), "bytes": args.base.stat().st_size,
        "sha256": file_digest(args.base), "content": content,
        "v4": len(base.v4), "v6": len(base.v6), "names": len(base.names), "ports": len(base.ports4) + len(base.ports6),
        "classes": len(base.classes) - 1, "feeds": feeds,
    }  # fmt: skip
    rows = [
        [
            str(f["name"]), str(f["category"]), str(f["action"]), _number(f["v4"]), _number(f["v6"]),
            _number(f["names"]), *([str(f["licence"] or "-"), str(f["source"])] if args.sources else []),
        ]
        for f in feeds
    ]  # fmt: skip
    headers = [_("liste"), _("catégorie"), _("action"), "IPv4", "IPv6", _("noms")]
    headers += [_("licence"), _("source")] if args.sources else []
    text = [
        _("Base {serial} du {date}, {size} Ko").format(
            serial=base.serial, date=_date(base.created), size=_number(-(-data["bytes"] // 1024))
        ),
        _("{v4} plages IPv4, {v6} plages IPv6, {names} noms, {ports} ports précis").format(
            v4=_number(data["v4"]), v6=_number(data["v6"]), names=_number(data["names"]), ports=_number(data["ports"])
        ),
        "",
        output.table(headers, rows),
    ]
    output.emit(args, data, "\n".join(text))
    return 0


def _running_text(answer: dict[str, Any]) -> str:
    lines = [
        _("Base en service : {serial} du {date}").format(serial=answer["serial"], date=_date(answer["created"])),
        _("{v4} plages IPv4, {v6} plages IPv6, {names} noms").format(
            v4=_number(answer["v4"]), v6=_number(answer["v6"]), names=_number(answer["names"])
        ),
    ]
    count = len(answer["feeds"])
    lines.append(ngettext("{n} liste : {feeds}", "{n} listes : {feeds}", count).format(
        n=count, feeds=", ".join(answer["feeds"])
    ))  # fmt: skip
    return "\n".join(lines)


def _diff(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import load_base
    from vigie.filter.base.diff import make_delta, samples

    old, new = load_base(args.old), load_base(args.new)
    delta = make_delta(old, new)
    counts = delta.counts()
    shown = samples(delta, old, new, SAMPLES)
    data = {"from": old.serial, "to": new.serial, **counts, "samples": shown}
    kinds = {"v4": "IPv4", "v6": "IPv6", "names": _("noms")}
    rows = [[kinds[kind], *(_number(counts[kind][k]) for k in ("added", "removed", "changed"))] for kind in kinds]
    text = [
        _("De la base {old} à la base {new}").format(old=old.serial, new=new.serial),
        output.table(["", _("ajoutés"), _("retirés"), _("modifiés")], rows),
    ]
    marks = {"added": "+", "removed": "-", "changed": "~"}
    for change, mark in marks.items():
        text += [f"{mark} {item}" for kind in kinds for item in shown[kind][change]]
    output.emit(args, data, "\n".join(text))
    return 0


def _apply(args: argparse.Namespace) -> int:
    from vigie.filter.base.basefile import load_base

    # Verified whole before anybody is disturbed, also the parts that the kernel does not need.
    base = load_base(args.base)
    if args.image is not None:
        from vigie.filter.base.basefile import write_atomically
        from vigie.filter.base.image import build_image
        from vigie.filter.base_store import box_lists

        additions, wrong = box_lists()
        if wrong:
            raise UsageError(wrong)
        image = build_image(base, additions)
        write_atomically(args.image, image)
        data = {"image": str(args.image), "serial": base.serial, "bytes": image.nbytes}
        text = _("{path} : image de la base {serial}, {size} Ko").format(
            path=args.image, serial=base.serial, size=_number(-(-image.nbytes // 1024))
        )
        output.emit(args, data, text)
        return 0
    from vigie.filter import client

    more = {"force": True} if args.force else {}
    answer = client.call(args.socket, "base-apply", path=str(args.base.resolve()), **more)
    text = _("Base {serial} en service : {v4} plages IPv4, {v6} plages IPv6, {names} noms").format(
        serial=base.serial, v4=_number(len(base.v4)), v6=_number(len(base.v6)), names=_number(len(base.names))
    )
    output.emit(args, answer, text)
    return 0


def _number(value: Any) -> str:
    """Thousands apart by a narrow no-break space, as French writes them."""
    return f"{int(value):,}".replace(",", "\u202f")


def _date(unix: int) -> str:
    try:
        return datetime.fromtimestamp(unix).astimezone().strftime("%d/%m/%Y %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"
