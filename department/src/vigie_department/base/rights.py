"""No list is published without a recorded right to pass it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vigie_department.errors import PublishError
from vigie_department.texts import _


def check(feeds: Iterable[Mapping[str, Any]]) -> None:
    """PublishError that names every list without it, and where to record it.

    feeds: as the compiler reports them: {feed, file, source, licence, redistributable}.
    """
    missing = [feed for feed in feeds if not feed["redistributable"] or not feed["licence"]]
    if not missing:
        return
    lines = [
        _("  {name} ({file}) : licence {licence}, source {source}").format(
            name=feed["feed"], file=feed["file"], licence=feed["licence"] or "?", source=feed["source"] or "?"
        )
        for feed in missing
    ]
    raise PublishError(
        "\n".join(
            [
                _("ces listes n'ont pas de droit de redistribution enregistré, la base n'est pas publiée :"),
                *lines,
                _(
                    "Quand le droit existe, écrivez-le dans un jeu de listes (.yaml) qui nomme le fichier : "
                    "`licence:`, `source:` et `redistributable: true`. Sinon retirez la liste."
                ),
            ]
        )
    )
