"""Feeds: from files and feed sets to :class:`Entries`, with a report of every line that was not taken as it is.

A feed set is a YAML file:

    version: 1
    feeds:
      - name: ipsum                  # unique
        file: ipsum.txt.gz           # next to the feed set, or absolute
        category: scanner            # vigie.contract.codes.Category, lower case
        direction: in                # both, out, in
        action: block                # block, observe, allow
        source: https://github.com/stamparm/ipsum
        licence: Unlicense
        redistributable: true
        format: scored               # optional, as the rest: see readers.FORMATS
        min_score: 3
        column: ip                   # title, or number from 1
        score_column: 2
        label: malware/              # normalised TSV: only these families
        under: trails/static/malware # archives: only this folder
        max_bad_percent: 5
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

from vigie.contract.codes import Action, Category, Direction
from vigie.errors import FeedError
from vigie.filter.base import known, yamltext
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.readers import FORMATS
from vigie.filter.base.readers.detect import Unknown, detect
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Note, Sink, Tally
from vigie.filter.base.readers.source import Text, read
from vigie.filter.base.readers.tables import ColumnError
from vigie.filter.base.yamltext import Value

SHOWN: Final = 10
"""Bad lines quoted when a feed is refused."""
MAX_FILES: Final = 10_000
_Number = TypeVar("_Number", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What became of one feed. Lines are numbered from 1 in the unfolded text; `where` resolves archives."""

    feed: Feed
    path: Path
    format: str
    tally: Tally
    v4: int
    v6: int
    names: int
    text: Text

    @property
    def bad_share(self) -> float:
        """Bad lines among those that say something, 0..1."""
        return self.tally.bad / self.tally.judged if self.tally.judged else 0.0

    def where(self, line: int) -> str:
        """`path:line`, or `archive!member:line`."""
        member, inside = self.text.where(line)
        return f"{self.path}!{member}:{inside}" if member else f"{self.path}:{inside}"

    def describe(self, note: Note) -> str:
        """One line for people: where, why, what."""
        return f"{self.where(note.line)}: {note.reason}: {note.text!r}"

    def to_json(self) -> dict[str, object]:
        """For `--json`. Notes are bounded (see readers.sink.KEPT_NOTES), counts are not."""
        tally = self.tally

        def listed(notes: Iterable[Note]) -> list[dict[str, object]]:
            return [{"where": self.where(n.line), "text": n.text, "reason": n.reason} for n in notes]

        return {
            "feed": self.feed.name,
            "file": str(self.path),
            "format": self.format,
            "category": self.feed.category.name.lower(),
            "direction": self.feed.direction.name.lower(),
            "action": self.feed.action.name.lower(),
            "source": self.feed.source,
            "licence": self.feed.licence,
            "redistributable": self.feed.redistributable,
            "lines": tally.lines,
            "blank": tally.blank,
            "good": tally.good,
            "bad": tally.bad,
            "v4": self.v4,
            "v6": self.v6,
            "names": self.names,
            "skipped": dict(tally.skipped.most_common()),
            "skipped_examples": listed(tally.skip_notes.values()),
            "bad_lines": listed(tally.bad_notes),
            "warned": tally.warned,
            "warnings": listed(tally.warnings),
        }


class FeedRefused(FeedError):
    """The feed is not used at all. `report` is None when its content could not be read as any format."""

    def __init__(self, path: Path, reason: str, report: FeedReport | None = None) -> None:
        super().__init__(path, None, reason)
        self.report = report


def read_feed(feed: Feed, path: Path, options: Options | None = None) -> tuple[Entries, FeedReport]:
    """Read one feed. FeedRefused when it has no known shape or more bad lines than allowed; FeedError if unreadable."""
    options = options or Options()
    return parse_feed(feed, path, read(path, limit=options.max_bytes, under=options.under), options)


def parse_feed(feed: Feed, path: Path, text: Text, options: Options) -> tuple[Entries, FeedReport]:
    """The pure part of :func:`read_feed`: `path` only serves messages."""
    sink = Sink()
    try:
        name = options.format or detect(text.data)
        if name not in FORMATS:
            raise FeedRefused(path, f"unknown format {name!r}; known: {', '.join(FORMATS)}")
        FORMATS[name](text.data, options, sink)
    except (Unknown, ColumnError) as error:
        raise FeedRefused(path, f"refused: {error}") from error
    except ValueError as error:  # JSON that is none, although the format was imposed
        raise FeedRefused(path, f"refused: not of format {options.format!r}: {error}") from error
    entries = sink.entries()
    counts = len(entries.v4_first), len(entries.v6_first), len(entries.names)
    sink.tally.bad_notes.sort(key=lambda note: note.line)
    report = FeedReport(feed, path, name, sink.tally, *counts, text)
    if report.bad_share > options.max_bad:
        raise FeedRefused(path, _refusal(report, options.max_bad), report)
    return entries, report


def _refusal(report: FeedReport, allowed: float) -> str:
    tally = report.tally
    head = (
        f"feed {report.feed.name!r} refused, read as {report.format!r}: {tally.bad} bad lines of {tally.judged} "
        f"({100 * report.bad_share:.1f} %, at most {100 * allowed:g} %). The first ones:"
    )
    return "\n".join([head, *(f"  {report.describe(note)}" for note in tally.bad_notes[:SHOWN])])


def feeds_of(paths: Iterable[Path]) -> list[tuple[Feed, Path, Options]]:
    """Feeds of a command line: feed sets (.yaml, .yml), files (guessed by :mod:`.known`), folders (every file below).

    Names are made unique by appending -2, -3 ... Raises FeedError.
    """
    found: list[tuple[Feed, Path, Options]] = []
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
            files = [file for file in files if file.suffix not in (".md", ".yaml", ".yml")]
            if len(files) > MAX_FILES:
                raise FeedError(path, None, f"folder of more than {MAX_FILES} files: name what is meant")
            for file in files:
                found += [(feed, file, options) for feed, options in known.guess(file)]
        elif not path.exists():
            raise FeedError(path, None, "no such file")
        elif path.suffix in (".yaml", ".yml"):
            found += feed_set(path)
        else:
            found += [(feed, path, options) for feed, options in known.guess(path)]
    return _unique(found)


def _unique(found: list[tuple[Feed, Path, Options]]) -> list[tuple[Feed, Path, Options]]:
    taken: set[str] = set()
    done = []
    for feed, path, options in found:
        name, n = feed.name, 1
        while name in taken:
            n += 1
            name = f"{feed.name}-{n}"
        taken.add(name)
        done.append((replace(feed, name=name), path, options))
    return done


_REQUIRED: Final = {"name", "file", "category", "direction", "action", "source", "licence", "redistributable"}
_OPTIONAL: Final = {"format", "min_score", "column", "score_column", "label", "under", "max_bad_percent"}


def feed_set(path: Path) -> list[tuple[Feed, Path, Options]]:
    """Feeds that a feed set describes. FeedError names the line of what is wrong."""
    document = yamltext.load(path, FeedError).mapping({"version", "feeds"})
    document["version"].number(1, 1)
    found: list[tuple[Feed, Path, Options]] = []
    names: set[str] = set()
    for item in document["feeds"].items():
        keys = item.mapping(_REQUIRED, _OPTIONAL)
        feed = Feed(
            name=keys["name"].text(),
            category=_code(keys["category"], Category),
            direction=_code(keys["direction"], Direction),
            action=_code(keys["action"], Action),
            source=keys["source"].text(),
            licence=keys["licence"].text(),
            redistributable=keys["redistributable"].truth(),
        )
        if feed.name in names:
            keys["name"].fail(f"the name {feed.name!r} is taken by another feed")
        if feed.category == Category.NONE:
            keys["category"].fail("an indicator needs a category other than none")
        if feed.action == Action.NONE:
            keys["action"].fail("an action of block, observe or allow is expected")
        names.add(feed.name)
        found.append((feed, path.parent / keys["file"].text(), _options(keys)))
    return found


def _code(value: Value, numbers: type[_Number]) -> _Number:
    known_names = {number.name.lower(): number for number in numbers}
    if value.text() not in known_names:
        value.fail(f"unknown {numbers.__name__.lower()} {value.text()!r}; known: {', '.join(known_names)}")
    return known_names[value.text()]


def _options(keys: dict[str, Value]) -> Options:
    def column(key: str) -> str | int | None:
        if key not in keys:
            return None
        return keys[key].number(1, 1000) if keys[key].is_number() else keys[key].text()

    def get(key: str, take: Callable[[Value], str | int], default: str | int) -> str | int:
        return take(keys[key]) if key in keys else default

    form = str(get("format", Value.text, ""))
    if form and form not in FORMATS:
        keys["format"].fail(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    score = column("score_column")
    minimum = int(get("min_score", lambda v: v.number(0, 10**9), 0))
    if minimum and score is None and form not in ("", "scored"):
        keys["min_score"].fail("min_score needs a score_column, or the format `scored`")
    return Options(
        format=form,
        column=column("column"),
        score_column=score,
        min_score=minimum,
        label=str(get("label", Value.text, "")),
        under=str(get("under", Value.text, "")),
        max_bad=int(get("max_bad_percent", lambda v: v.number(0, 100), 5)) / 100,
    )


__all__ = ["FeedRefused", "FeedReport", "Options", "feed_set", "feeds_of", "parse_feed", "read_feed"]
