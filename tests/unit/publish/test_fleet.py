"""Figures from the console's tables, releases in its table, and the announcement in its queue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import department
from vigie.contract import topics
from vigie.contract.base import ring
from vigie.contract.downward import Announcement
from vigie.contract.words import Look
from vigie_department.base.announce import announce
from vigie_department.base.counts import FleetCounts
from vigie_department.base.judge import Observed, Refusals, judge_wave
from vigie_department.base.release import Built, Release, Stage
from vigie_department.base.settings import PublishSettings
from vigie_department.base.store import DjangoStore, FileStore, ReleaseStore
from vigie_department.errors import PublishError

department.shared()

HOUR = timedelta(hours=1)
START = datetime(2027, 1, 18, 10, 20, tzinfo=UTC)


@pytest.fixture
def db() -> Iterator[None]:
    with department.rolled_back():
        yield


def box(number: int, *, online: bool = True, volunteer: bool = False, commune: int | None = None) -> str:
    from vigie_department.console.models import Box, BoxStatus, Commune

    letters = "abcdefghijklmnopqrstuvwxyz234567"
    name = "vg-" + "b" * 14 + letters[number // 32] + letters[number % 32]
    insee = f"{59000 + (number if commune is None else commune):05d}"
    home, _made = Commune.objects.get_or_create(insee=insee, defaults={"name": insee, "volunteer": volunteer})
    one = Box.objects.create(id=name, state=Box.State.ACTIVE, commune=home)
    BoxStatus.objects.create(box=one, online=online)
    return name


def count(name: str, hour: datetime, value: int, counter: str = "blocked:35") -> None:
    from vigie_department.console.models import Counter

    Counter.objects.create(box_id=name, hour=hour.replace(minute=0), name=counter, value=value)


def test_refusals_inside_and_outside_the_wave_now_and_a_week_before(db: None) -> None:
    names = [box(n) for n in range(120)]
    version = next(v for v in range(1, 1000) if 2 <= sum(ring(name, v) < 5 for name in names) <= 10)
    inside = [name for name in names if ring(name, version) < 5]
    outside = [name for name in names if ring(name, version) >= 5]
    week = timedelta(days=7)
    for name in inside:
        count(name, START, 10_000)  # the hour of the release: both bases mixed
        count(name, START + HOUR, 30)
        count(name, START + HOUR, 5, "blocked:37")
        count(name, START + HOUR, 900, "blocked:40")  # unsolicited inbound is another matter
        count(name, START + HOUR - week, 7)
    for name in outside[:10]:
        count(name, START + 2 * HOUR, 4)
        count(name, START + 2 * HOUR, 1, "frames_in")
    seen = FleetCounts().wave(version, 5, START.timestamp(), (START + 3 * HOUR).timestamp())
    n, m = len(inside), len(outside)
    assert seen.wave == Refusals(n, n, n, 35 * n)
    assert seen.wave_before == Refusals(n, n, n, 7 * n)
    assert seen.rest == Refusals(m, 10, 10, 40)
    assert seen.rest_before == Refusals(m, 0, 0, 0)


def test_boxes_that_are_off_are_not_waited_for(db: None) -> None:
    for n in range(50):
        box(n, online=False)
    seen = FleetCounts().wave(1, 100, START.timestamp(), (START + HOUR).timestamp())
    assert seen.wave.boxes == 0


def test_a_trial_counts_communes_and_not_boxes(db: None) -> None:
    from vigie_department.console.models import BoxStatus, Observation

    boxes = [box(n, volunteer=True, commune=n // 2) for n in range(8)]  # two boxes in each of four communes
    box(20, volunteer=False)
    BoxStatus.objects.filter(box_id__in=boxes[:4]).update(candidate=7)

    def met(name: str, indicator: str, candidate: int = 7) -> None:
        Observation.objects.create(box_id=name, candidate=candidate, indicator=indicator, count=3, last=START)

    for name in boxes:
        met(name, "wide.example.fr")
    for name in boxes[:4]:
        met(name, "narrow.example.fr")
        met(name, "other.example.fr", candidate=6)
    trial = FleetCounts().trial(7)
    assert (trial.volunteers, trial.reporting) == (4, 2)
    assert list(trial.observed) == [Observed("wide.example.fr", 4, 24), Observed("narrow.example.fr", 2, 12)]
    assert trial.shown() == [Observed("wide.example.fr", 4, 24)]


def releases() -> list[Release]:
    first = Release(Built(1, "aa" * 32, 100), Stage.ALL, 1000.0, 900.0, "alice", report={"share": 100})
    second = Release(
        Built(3, "bb" * 32, 120), Stage.CANDIDATE, 2000.0, 1900.0, "bob",
        candidate=Built(2, "cc" * 32, 130), previous=1, emergency=True, approval="00aa", note="pourquoi pas",
        report={"compiled": {"v4": 1}},
    )  # fmt: skip
    third = Release(Built(4, "dd" * 32, 120), Stage.PREPARED, 3000.0, 2900.0, "bob", previous=1, reverts=3)
    return [first, second, third]


@pytest.fixture(params=["file", "django"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReleaseStore]:
    if request.param == "file":
        yield FileStore(tmp_path / "releases.json")
        return
    with department.rolled_back():
        yield DjangoStore()


def test_releases_come_back_as_they_were(store: ReleaseStore) -> None:
    assert store.all() == []
    first, second, third = releases()
    store.put(third, first)
    store.put(second)
    assert store.all() == [first, second, third]
    moved = second.moved(Stage.WAVE, 2500.0, "assez vu", trial="quiet")
    store.put(moved)
    assert store.all() == [first, moved, third]
    assert moved.share == 5


def test_a_damaged_file_of_releases(tmp_path: Path) -> None:
    path = tmp_path / "releases.json"
    path.write_text('[{"base": 1}]', encoding="utf-8")
    with pytest.raises(PublishError, match="not a list of releases"):
        FileStore(path).all()


def test_boxes_are_told_to_look(db: None) -> None:
    from vigie_department.console.models import Outgoing

    announce(12)
    row = Outgoing.objects.get()
    assert row.topic == topics.announcement(Look.BASE) == "vigie/v1/all/down/base"
    assert Announcement.from_bytes(bytes(row.payload)).version == 12
    assert not row.retain


def test_one_box_that_lies_neither_stops_a_wave_nor_hides_what_it_does(db: None) -> None:
    names = [box(n) for n in range(120)]
    version = next(v for v in range(1, 1000) if 6 <= sum(ring(name, v) < 5 for name in names) <= 10)
    inside = [name for name in names if ring(name, version) < 5]
    outside = [name for name in names if ring(name, version) >= 5]
    week = timedelta(days=7)

    def verdict() -> bool:
        seen = FleetCounts().wave(version, 5, START.timestamp(), (START + 3 * HOUR).timestamp())
        return judge_wave(seen, PublishSettings()).jump

    for name in names:
        for hour in (START + HOUR, START + HOUR - week):
            count(name, hour, 2)
    assert not verdict()
    # More than an honest box ever counts; the sum of a few of them would also be more than the database holds.
    for counter in ("blocked:35", "blocked:36", "blocked:37"):
        count(inside[0], START + 2 * HOUR, 2**62, counter)
    assert not verdict()
    # Everybody in the wave has more, and one outside says that it has too.
    for name in inside[1:]:
        count(name, START + 2 * HOUR, 60)
    count(outside[0], START + 2 * HOUR, 2**62)
    assert verdict()
