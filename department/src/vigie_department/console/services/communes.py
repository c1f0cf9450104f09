"""Importing communes from a CSV file, and editing one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction

from vigie_department.console.models import Commune
from vigie_department.console.services import audit, desired, opening
from vigie_department.console.services.audit import Actor
from vigie_department.errors import UsageError
from vigie_department.texts import _

CSV_MAX: Final = 4 * 1024 * 1024
#: column in the file -> field
COLUMNS: Final = {
    "insee": "insee",
    "nom": "name",
    "epci": "epci",
    "interlocuteur": "contact_name",
    "telephone": "contact_phone",
    "courriel": "contact_email",
    "horaires": "opening",
}


@dataclass(slots=True)
class Imported:
    """What an import did."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: int = 0


def parse(data: bytes) -> list[dict[str, str]]:
    """Rows by field name. `;` or `,`; UTF-8 or Latin-1; columns in any order, unknown ones refused."""
    if len(data) > CSV_MAX:
        raise UsageError(_("Le fichier dépasse {n} octets.").format(n=CSV_MAX))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if first.count(";") >= first.count(",") else ",")
    names = [(name or "").strip().lower().replace("é", "e") for name in reader.fieldnames or ()]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not {"insee", "nom"} <= set(names):
        raise UsageError(
            _("Première ligne attendue : insee;nom, puis au choix {others}. Trouvé : {found}").format(
                others=", ".join(sorted(set(COLUMNS) - {"insee", "nom"})), found=", ".join(names) or "-"
            )
        )
    reader.fieldnames = names
    rows = []
    for row in reader:
        if None in row:
            raise UsageError(_("ligne {n} : trop de colonnes").format(n=reader.line_num))
        rows.append({COLUMNS[name]: (value or "").strip() for name, value in row.items()})
    return rows


def load(actor: Actor, data: bytes) -> Imported:
    """All or nothing: UsageError names every wrong line. Communes that the file does not name are left alone."""
    done = Imported()
    problems: list[str] = []
    changed: list[Commune] = []
    with transaction.atomic():
        for number, row in enumerate(parse(data), 2):
            insee = row.pop("insee").upper().zfill(5)
            found = Commune.objects.filter(insee=insee).first()
            commune = found or Commune(insee=insee)
            before = {name: getattr(commune, name) for name in row}
            for name, value in row.items():
                setattr(commune, name, value)
            try:
                check(commune)
            except UsageError as error:
                problems.append(_("ligne {n} : {error}").format(n=number, error=error))
                continue
            if found is None:
                done.added.append(insee)
            elif before == row:
                done.same += 1
                continue
            else:
                done.changed.append(insee)
                changed.append(commune)
            commune.save()
            audit.record(actor, "commune.import", commune, insee=insee)
        if problems:
            raise UsageError("\n".join(problems[:20]))
        for commune in changed:
            desired.issue_all(desired.affected_by_commune(commune), actor, "commune")
    return done


def check_opening(commune: Commune) -> None:
    """UsageError when the opening hours cannot be read."""
    opening.parse(commune.opening)


def check(commune: Commune) -> None:
    """UsageError when a field is wrong."""
    check_opening(commune)
    try:
        commune.full_clean(validate_unique=False)
    except ValidationError as error:
        raise UsageError(
            " ; ".join(f"{name} : {' '.join(texts)}" for name, texts in error.message_dict.items())
        ) from error


def edit(actor: Actor, commune: Commune, changed: Mapping[str, Any]) -> None:
    """Save an edited commune; the documents of its boxes follow."""
    check(commune)
    with transaction.atomic():
        commune.save()
        audit.record(actor, "commune.edit", commune, insee=commune.insee, changed=dict(changed))
        desired.issue_all(desired.affected_by_commune(commune), actor, "commune")
