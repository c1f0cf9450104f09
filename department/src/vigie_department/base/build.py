"""Making files: a base from feeds, its candidate, its deltas, and the comparison with what is released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie.contract.base import Delta, delta_path
from vigie_department.base import rights
from vigie_department.base.compiler import Compiler
from vigie_department.base.release import Built
from vigie_department.errors import PublishError
from vigie_department.signer.keys import digest_of_file

#: Entries of a report that are kept with a release: the whole can be megabytes.
KEPT_EXAMPLES: Final = 50


@dataclass(frozen=True, slots=True)
class Workshop:
    """The publisher's folder: base-<version>.vgb and delta-<from>-<to>.vgd, kept as long as they serve."""

    folder: Path
    compiler: Compiler

    def base(self, version: int) -> Path:
        """File of a base."""
        return self.folder / f"base-{version}.vgb"

    def delta_file(self, old: int, new: int) -> Path:
        """File of a delta."""
        return self.folder / f"delta-{old}-{new}.vgd"

    def compile(self, feeds: Sequence[Path], version: int) -> tuple[Built, dict[str, Any]]:
        """A base of lists that may be passed on, and a report of bounded size."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = self.base(version)
        report = self.compiler.compile(feeds, path, version)
        try:
            rights.check(report["feeds"])
        except PublishError:
            path.unlink(missing_ok=True)
            raise
        return self.built(version), shorten(report)

    def built(self, version: int) -> Built:
        """A base file that is there. PublishError when it is not."""
        path = self.base(version)
        if not path.is_file():
            raise PublishError(f"{path}: is missing; it is needed to go on with version {version}")
        return Built(version, digest_of_file(path), path.stat().st_size)

    def candidate(self, released: int, new: int, version: int) -> Built:
        """The released base with what the new one adds, only observed."""
        self.compiler.candidate(self.base(released), self.base(new), self.base(version), version)
        return self.built(version)

    def renumber(self, old: int, version: int) -> Built:
        """The content of `old` as `version`."""
        self.compiler.renumber(self.base(old), self.base(version), version)
        return self.built(version)

    def compare(self, old: int, new: int) -> dict[str, Any]:
        """{"changes": counts and samples, "limits": what a box that has `old` would say of `new`}."""
        return {
            "changes": self.compiler.diff(self.base(old), self.base(new)),
            "limits": self.compiler.check(self.base(old), self.base(new)),
        }

    def deltas(self, olds: Iterable[int], new: int) -> list[Delta]:
        """Deltas to `new` from those whose file is here and that are worth it: less than half of the base."""
        found = []
        for old in olds:
            if old == new or not self.base(old).is_file():
                continue
            path = self.delta_file(old, new)
            if not path.is_file():
                try:
                    self.compiler.delta(self.base(old), self.base(new), path)
                except PublishError:
                    continue  # the two hash names differently (collision): boxes take the whole base
            length = path.stat().st_size
            if 2 * length < self.base(new).stat().st_size:
                found.append(Delta(old, new, delta_path(old, new), digest_of_file(path), length))
        return found

    def tidy(self, keep: Iterable[int]) -> None:
        """Removes files of versions that are not in `keep`."""
        kept = set(keep)
        for path in self.folder.glob("base-*.vgb"):
            if _numbers(path) - kept:
                path.unlink()
        for path in self.folder.glob("delta-*.vgd"):
            if _numbers(path) - kept:
                path.unlink()


def _numbers(path: Path) -> set[int]:
    return {int(part) for part in path.stem.split("-")[1:] if part.isdigit()}


def shorten(report: dict[str, Any]) -> dict[str, Any]:
    """A compiler's report with at most KEPT_EXAMPLES of everything that is listed, and how many there were."""
    protected = report.get("protected", [])
    by: dict[str, int] = {}
    for one in protected:
        by[one["by"]] = by.get(one["by"], 0) + 1
    feeds = [
        {key: value for key, value in feed.items() if key not in ("skipped_examples", "bad_lines", "warnings")}
        for feed in report["feeds"]
    ]
    return {
        **{key: report[key] for key in ("v4", "v6", "names", "coverage4", "refused") if key in report},
        "too_short": report.get("too_short", {}),
        "feeds": feeds,
        "protected": {
            "count": len(protected),
            "by": dict(sorted(by.items(), key=lambda item: -item[1])[:KEPT_EXAMPLES]),
            "examples": protected[:KEPT_EXAMPLES],
        },
    }
