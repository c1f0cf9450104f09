"""Where releases are remembered: the console's table, or a file where there is no database (tests, drills)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from vigie_department.base.release import Built, Release, Stage
from vigie_department.errors import PublishError
from vigie_department.signer.files import FileError, read_bounded, write_atomically

_MAX_FILE = 64 << 20


class ReleaseStore(Protocol):
    """Releases by version."""

    def all(self) -> list[Release]:
        """Every release, oldest first."""

    def put(self, *releases: Release) -> None:
        """Adds or replaces these, together."""


@dataclass(frozen=True, slots=True)
class FileStore:
    """One JSON file."""

    path: Path

    def all(self) -> list[Release]:
        """Every release, oldest first. PublishError when the file is damaged."""
        if not self.path.exists():
            return []
        try:
            rows = json.loads(read_bounded(self.path, _MAX_FILE))
            return sorted((_release(row) for row in rows), key=lambda r: r.version)
        except (FileError, ValueError, KeyError, TypeError) as e:
            raise PublishError(f"{self.path}: not a list of releases ({e})") from e

    def put(self, *releases: Release) -> None:
        """Adds or replaces these, together."""
        found = {r.version: r for r in self.all()} | {r.version: r for r in releases}
        rows = [asdict(r) for _version, r in sorted(found.items())]
        write_atomically(self.path, json.dumps(rows, ensure_ascii=False).encode())


def _release(row: Mapping[str, Any]) -> Release:
    candidate = row["candidate"]
    fields = {
        **row,
        "base": Built(**row["base"]),
        "candidate": None if candidate is None else Built(**candidate),
        "stage": Stage(row["stage"]),
    }
    return Release(**fields)


class DjangoStore:
    """The table BaseRelease. Needs `console.setup.start`."""

    def all(self) -> list[Release]:
        """Every release, oldest first."""
        from vigie_department.console.models import BaseRelease

        return [_from_row(row) for row in BaseRelease.objects.order_by("version")]

    def put(self, *releases: Release) -> None:
        """Adds or replaces these, in one transaction."""
        from django.db import transaction

        from vigie_department.console.models import BaseRelease

        with transaction.atomic():
            for release in releases:
                candidate = release.candidate
                BaseRelease.objects.update_or_create(
                    version=release.version,
                    defaults={
                        "stage": release.stage.value,
                        "stage_since": datetime.fromtimestamp(release.stage_since, UTC),
                        "created": datetime.fromtimestamp(release.created, UTC),
                        "sha256": release.base.sha256,
                        "length": release.base.length,
                        "candidate_version": candidate.version if candidate else None,
                        "candidate_sha256": candidate.sha256 if candidate else "",
                        "candidate_length": candidate.length if candidate else None,
                        "previous_version": release.previous,
                        "reverts": release.reverts,
                        "emergency": release.emergency,
                        "approval": release.approval,
                        "operator": release.operator,
                        "note": release.note,
                        "report": dict(release.report),
                    },
                )


def _from_row(row: Any) -> Release:
    candidate = None
    if row.candidate_version is not None:
        candidate = Built(row.candidate_version, row.candidate_sha256, row.candidate_length or 0)
    return Release(
        base=Built(row.version, row.sha256, row.length),
        stage=Stage(row.stage),
        stage_since=row.stage_since.timestamp(),
        created=row.created.timestamp(),
        operator=row.operator,
        candidate=candidate,
        previous=row.previous_version,
        reverts=row.reverts,
        emergency=row.emergency,
        approval=row.approval,
        note=row.note,
        report=row.report,
    )
