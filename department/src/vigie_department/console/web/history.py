"""An audit entry's detail as one line of words. What only an engineer reads (keys, serials) stays in the journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Field
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import is_aware, localtime

from vigie_department.console.models import AuditEntry, Box, Commune, PolicyException
from vigie_department.console.web import words
from vigie_department.texts import _

WIDTH: Final = 160
FORMAT: Final = "%d/%m/%Y %H:%M"


def line(entry: AuditEntry) -> str:
    """What people need of it, 160 characters at most; empty when its name says everything."""
    if entry.action == "desired.sign":
        parts = [_part(_("version"), entry.detail.get("version")), _occasion(str(entry.detail.get("reason") or ""))]
    elif "changed" in entry.detail:
        parts = _changes(entry)
    else:
        parts = [say(entry.detail[name]) for name, say in _SAY.items() if entry.detail.get(name) not in _NOTHING]
    text = ", ".join(part for part in parts if part)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def moment(value: Any) -> str:
    """A date of any kind (ISO text, Unix seconds, datetime), as people write it; the text itself when it is none."""
    try:
        if isinstance(value, str):
            found = parse_datetime(value)
            if found is None:
                day = parse_date(value)
                return value if day is None else f"{day:%d/%m/%Y}"
            return f"{localtime(found) if is_aware(found) else found:{FORMAT}}"
        if isinstance(value, int | float):
            value = datetime.fromtimestamp(value, UTC)
        return f"{localtime(value):{FORMAT}}"
    except (ValueError, OverflowError, OSError, AttributeError):
        return str(value)


_NOTHING: Final[tuple[Any, ...]] = ("", None, [], {})


def _part(label: str, value: Any) -> str:
    return "" if value in _NOTHING else f"{label} {value}"


def _quoted(value: Any) -> str:
    """What a person wrote."""
    return _("« {text} »").format(text=value).replace("« ", "«\u00a0").replace(" »", "\u00a0»")


def _effect(value: Any) -> str:
    return str(dict(PolicyException.Action.choices).get(value, value))


def _level(value: Any) -> str:
    return _part(_("niveau"), words.isolation(value) if isinstance(value, int) else value)


def _place(value: Any) -> str:
    """A commune's name, of its INSEE code."""
    found = Commune.objects.filter(insee=str(value)).first()
    return found.name if found else str(value)


def _command(value: Any) -> str:
    parts = value.values() if isinstance(value, dict) else [value]
    return ", ".join(", ".join(map(str, one)) if isinstance(one, list) else str(one) for one in parts if one)


# in the order of reading
_SAY: Final[dict[str, Callable[[Any], str]]] = {
    "firmware": str,
    "wave": lambda value: _part(_("vague"), value),
    "code": words.update_code,
    "check": lambda value: _part(_("contrôle :"), words.update_check(str(value))),
    "first": lambda value: _part(_("du"), moment(value)),
    "last": lambda value: _part(_("au"), moment(value)),
    "effect": _effect,
    "target": str,
    "indicator": str,
    "name": str,
    "role": lambda value: ", ".join(words.role(one) for one in ([value] if isinstance(value, str) else value)),
    "device": lambda value: _part(_("appareil"), value),
    "level": _level,
    "rank": lambda value: _part(_("rang"), value),
    "args": _command,
    "label": lambda value: _part(_("étiquette"), value),
    "claim": lambda value: _part(_("étiquette"), value),
    "commune": _place,
    "before": lambda value: _part(_("avant :"), _place(value)),
    "by": lambda value: _part(_("par"), value),
    "of": lambda value: _part(_("à la place de"), value),
    "to": lambda value: _part(_("maintenant sur"), value),
    "until": lambda value: _part(_("jusqu'au"), moment(value)),
    "not_after": lambda value: _part(_("valable jusqu'au"), moment(value)),
    "reason": _quoted,
    "note": _quoted,
}


def _changes(entry: AuditEntry) -> list[str]:
    """Fields by the name that forms give them; with values where the audit has them."""
    model = Commune if entry.kind == "commune" else Box
    labels = {field.name: str(field.verbose_name) for field in model._meta.get_fields() if isinstance(field, Field)}
    changed = entry.detail["changed"]
    if not isinstance(changed, dict):
        return [labels.get(name, str(name)) for name in changed]
    said = []
    for name, value in changed.items():
        if isinstance(value, list) and len(value) == 2:
            before, after = (moment(one) if isinstance(one, str) and one else one for one in value)
            value = f"{before or '-'} → {after or '-'}"
        said.append(f"{labels.get(name, name)} : {value}")
    return said


def _occasion(reason: str) -> str:
    """Why a document was signed: the services say it in codes, people read it in words."""
    kind, _space, rest = reason.partition(" ")
    known: dict[str, Callable[[], str]] = {
        "exception": lambda: _("exception {n}").format(n=rest),
        "isolation": lambda: (
            _("isolement levé")
            if rest == "0"
            else _("isolement {level}").format(level=words.isolation(int(rest)) if rest.isdecimal() else rest)
        ),
        "quarantine": lambda: _("quarantaine de {device}").format(device=rest),
        "never": lambda: _("protection de {name}").format(name=rest.removeprefix("block ")),
        "neverblock": lambda: _("protection de {name} retirée").format(name=rest),
        "essential": lambda: _("service essentiel {name}").format(name=rest),
        "commune": lambda: _("commune"),
        "firmware": lambda: _("logiciel {version}").format(version=rest) if rest else _("mise à jour retirée"),
        "settings": lambda: _("réglages"),
        "enrolled": lambda: _("inscription"),
        "replaces": lambda: _("à la place de {box}").format(box=rest),
    }
    return known[kind]() if kind in known else reason
