"""What `vigie-department base` prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vigie_department.base.release import Release, Stage
from vigie_department.texts import _

_SHOWN = 10


def number(value: float) -> str:
    """Thousands apart by a narrow no-break space, as French writes them."""
    return f"{int(value):,}".replace(",", "\u202f")


def moment(unix: float) -> str:
    """Local time."""
    return f"{datetime.fromtimestamp(unix, UTC).astimezone():%d/%m/%Y %H:%M}"


def stage(release: Release) -> str:
    """A stage as people say it."""
    return {
        Stage.PREPARED: _("préparée, pas publiée"),
        Stage.WAITING: _("attend l'accord de deux opérateurs"),
        Stage.CANDIDATE: _("à l'essai chez les volontaires"),
        Stage.WAVE: _("chez 5 % des boîtiers"),
        Stage.ALL: _("chez tous les boîtiers"),
        Stage.SUPERSEDED: _("remplacée"),
        Stage.STOPPED: _("arrêtée"),
        Stage.REVERTED: _("annulée"),
    }[release.stage]


def compiled(release: Release) -> str:
    """What the feeds gave, what was protected, what changes, what boxes will say."""
    report: Mapping[str, Any] = release.report
    lines: list[str] = []
    made = report.get("compiled")
    if made is not None:
        lines.append(
            _("Base {version} : {v4} plages IPv4, {v6} plages IPv6, {names} noms").format(
                version=release.version,
                v4=number(made["v4"]),
                v6=number(made["v6"]),
                names=number(made["names"]),
            )
        )
        lines += _feeds(made)
        lines += _protected(made["protected"])
    if "changes" in report:
        lines += _changes(report["changes"], report["limits"])
    return "\n".join(lines)


def _feeds(made: Mapping[str, Any]) -> list[str]:
    lines = [
        _("  {name} : {n} entrées, {bad} refusées ({licence})").format(
            name=feed["feed"],
            n=number(feed["v4"] + feed["v6"] + feed["names"]),
            bad=feed["bad"],
            licence=feed["licence"],
        )
        for feed in made["feeds"]
    ]
    lines += [
        _("  liste laissée de côté : {feed} ({reason})").format(feed=one["feed"], reason=one["reason"].split("\n")[0])
        for one in made.get("refused", [])
    ]
    lines += [
        _("  {feed} : {n} plages trop larges pour les boîtiers, laissées").format(feed=feed, n=n)
        for feed, n in made.get("too_short", {}).items()
    ]
    return lines


def _protected(found: Mapping[str, Any]) -> list[str]:
    if not found["count"]:
        return []
    lines = [_("Protégées, donc pas bloquées : {n} entrées").format(n=number(found["count"]))]
    lines += [f"  {number(n)} × {by}" for by, n in list(found["by"].items())[:_SHOWN]]
    lines += [
        _("  {indicator} ({feed}, ligne {line}) : {why}").format(
            indicator=one["indicator"], feed=one["feed"], line=one["line"], why=one["why"]
        )
        for one in found["examples"][:_SHOWN]
    ]
    return lines


def _changes(changes: Mapping[str, Any], limits: Mapping[str, Any]) -> list[str]:
    lines = [_("Ce qui change par rapport à la base {old} :").format(old=changes["from"])]
    for kind, name in (("v4", "IPv4"), ("v6", "IPv6"), ("names", _("noms"))):
        count = changes[kind]
        lines.append(
            _("  {kind} : {added} ajoutés, {removed} retirés, {changed} modifiés").format(
                kind=name,
                added=number(count["added"]),
                removed=number(count["removed"]),
                changed=number(count["changed"]),
            )
        )
        samples = changes["samples"][kind]
        for mark, what in (("+", "added"), ("-", "removed"), ("~", "changed")):
            lines += [f"    {mark} {one}" for one in samples[what][:_SHOWN]]
    covered, entries = limits["covered"], limits["entries"]
    lines.append(
        _(
            "  espace couvert : {old} adresses avant, {new} après ({percent} % d'ajout) ; entrées : {a}, puis {b}"
        ).format(
            old=number(covered["old4"]),
            new=number(covered["new4"]),
            percent=f"{covered['added_percent']:.1f}".replace(".", ","),
            a=number(entries["old"]),
            b=number(entries["new"]),
        )
    )
    if limits["ok"]:
        lines.append(_("  limites des boîtiers : respectées"))
    else:
        lines.append(_("  limites des boîtiers : dépassées"))
        lines += [f"    {one['code']} : {one['text']}" for one in limits["refusals"]]
    return lines


def line(release: Release) -> str:
    """One release in a list."""
    return _("base {version} : {stage} depuis le {when}, par {operator}{note}").format(
        version=release.version,
        stage=stage(release),
        when=moment(release.stage_since),
        operator=release.operator,
        note=f" ({release.note})" if release.note else "",
    )
