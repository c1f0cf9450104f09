"""`vigie replay FILE...`: what the box would have done with a capture, through the real data path."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.cli import output
from vigie.errors import UsageError
from vigie.i18n import _, ngettext

if TYPE_CHECKING:
    from vigie.filter.replay_summary import Hit, Summary

_SHOWN = 30
_BUILT = Path(__file__).parents[3] / "bpf" / "build" / "filter.bpf.o"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `replay`."""
    text = _("rejouer une capture à travers le filtrage")
    parser = subparsers.add_parser("replay", help=text, description=text, parents=[output.common()])
    parser.add_argument("files", nargs="+", type=Path, metavar=_("FICHIER"), help=_("capture pcap ou pcapng"))
    parser.add_argument(
        "--base", type=Path, metavar=_("BASE"), help=_("base toxique (défaut : celle du boîtier, s'il y en a une)")
    )
    parser.add_argument(
        "--lan",
        action="append",
        default=[],
        metavar=_("PRÉFIXE|MAC"),
        help=_("côté mairie de la capture : préfixe ou adresse MAC, répétable (défaut : deviné)"),
    )
    parser.add_argument(
        "--inbound",
        choices=("learn", "refuse", "off"),
        default="learn",
        help=_("connexions entrantes : apprises, refusées ou non filtrées (défaut : learn)"),
    )
    parser.add_argument("--journal", type=Path, metavar=_("BDD"), help=_("journal SQLite où inscrire les blocages"))
    parser.add_argument(
        "--object", type=Path, metavar=_("CHEMIN"), help=_("programme eBPF (défaut : celui du boîtier)")
    )
    parser.set_defaults(run=_replay)
    return parser


def _replay(args: argparse.Namespace) -> int:
    import contextlib

    from vigie.contract.codes import InboundMode
    from vigie.errors import VigieError
    from vigie.filter.base.basefile import load_base
    from vigie.filter.base_store import box_lists
    from vigie.filter.config import Config, JournalConfig
    from vigie.filter.journal import Journal
    from vigie.filter.replay import Replay, lan_option

    config = Config()
    lan = [_lan(text, lan_option) for text in args.lan]
    path = args.base or next((p for p in (config.base, config.builtin_base) if p.is_file()), None)
    additions, _wrong = box_lists()
    summaries: list[Summary] = []
    failures: list[tuple[Path, str]] = []
    with contextlib.ExitStack() as stack:
        journal = None
        if args.journal is not None:
            # Times are the capture's: nothing may be too old for a journal that was asked for.
            journal = Journal(JournalConfig(path=args.journal, keep_days=100_000))
            stack.callback(journal.close)
        mode = InboundMode[args.inbound.upper()]
        base = load_base(path) if path is not None else None
        replay = Replay(_object(args.object, config.object), base, additions=additions, inbound=mode, journal=journal)
        stack.enter_context(replay)
        for file in args.files:
            try:
                summaries.append(replay.run(file, lan))
            except VigieError as error:
                if len(args.files) == 1:
                    raise
                failures.append((file, str(error)))
    data = {
        "base": str(path) if path is not None else None,
        "files": [summary.to_json() for summary in summaries],
        "failed": [{"file": str(file), "problem": problem} for file, problem in failures],
    }
    text = "\n\n".join([render(summary) for summary in summaries] + [problem for _file, problem in failures])
    if path is None:
        text = _("Aucune base toxique : seules les règles du boîtier s'appliquent (--base BASE).") + "\n\n" + text
    output.emit(args, data, text)
    return 1 if failures else 0


def _object(given: Path | None, installed: Path) -> Path:
    """The program named; else the installed one; else, in a checkout, the one that was built there."""
    if given is not None:
        return given
    return installed if installed.is_file() or not _BUILT.is_file() else _BUILT


def _lan(text: str, parse: Any) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"--lan {text}: {error}") from error


def render(summary: Summary) -> str:
    """One file, as text for people."""
    from vigie.contract.codes import Reason, Verdict
    from vigie.filter import wording

    data = summary.to_json()
    lines = [
        _("{file} : {frames} trames sur {packets}, {span}, depuis le {when}").format(
            file=summary.file,
            frames=summary.frames,
            packets=summary.packets,
            span=output.span(summary.duration_s),
            when=output.moment(summary.first_ns / 1e9),
        ),
        _("côté mairie : {nets} ({how})").format(
            nets=", ".join(summary.onlink) or _("inconnu"), how=_basis(summary.basis)
        ),
    ]
    if summary.problem:
        lines.append(_("fichier abîmé : {problem}").format(problem=summary.problem))
    lines += [
        ngettext("{n} trame non lue : {why}", "{n} trames non lues : {why}", n).format(n=n, why=why)
        for why, n in summary.unread.items()
    ]
    lines.append(
        _("verdicts : {list}").format(
            list=", ".join(f"{wording.verdict(Verdict[name.upper()])} {n}" for name, n in data["verdicts"].items())
        )
    )
    lines.append(
        _("raisons : {list}").format(
            list=", ".join(f"{wording.reason(Reason[name.upper()])} {n}" for name, n in data["reasons"].items())
        )
    )
    hits = sorted(summary.hits.values(), key=lambda hit: -hit.packets)
    lines.append("")
    if hits:
        headers = [_("Indicateur"), _("Verdict"), _("Raison"), _("Catégorie"), _("Paquets"), _("Sources")]
        lines.append(output.table(headers, [_row(hit) for hit in hits[:_SHOWN]]))
        if len(hits) > _SHOWN:
            lines.append(_("… et {n} autres (--json les donne tous)").format(n=len(hits) - _SHOWN))
    else:
        lines.append(_("rien n'aurait été bloqué"))
    names = [f"{name} ({n})" for name, n in summary.names.most_common(10)]
    if names:
        lines.append(
            _("noms demandés : {count}, dont {names}").format(count=len(summary.names), names=", ".join(names))
        )
    return "\n".join(lines)


def _row(hit: Hit) -> list[str]:
    from vigie.filter import wording

    return [
        hit.indicator,
        wording.verdict(hit.verdict),
        wording.reason(hit.reason),
        wording.category(hit.category),
        str(hit.packets),
        ", ".join(hit.sources[:3]) + (" …" if len(hit.sources) > 3 else ""),
    ]


def _basis(basis: str) -> str:
    return {
        "given": _("indiqué"),
        "private": _("deviné : adresses privées"),
        "host": _("deviné : machine la plus active"),
    }.get(basis, _("rien ne permet de le deviner"))
