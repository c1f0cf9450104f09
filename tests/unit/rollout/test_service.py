"""Rollouts over the tables: acts and their audit, orders in signed documents, what boxes say through the ingest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from tests.support import department
from tests.support.messages import Outbox, box_id, state
from tests.support.rolloutfleet import GOAL, OLD, START, STEP, publish
from tests.support.signing import LocalSigner, local
from vigie.contract.errors import MessageError
from vigie_department.config import Config
from vigie_department.console.models import (
    AuditEntry,
    Box,
    BoxStatus,
    Commune,
    Counter,
    DesiredState,
    FirmwareOrder,
    Outgoing,
    Rollout,
    RolloutBox,
)
from vigie_department.console.services import audit, desired
from vigie_department.console.services.audit import Actor
from vigie_department.errors import RefusedError, StateError, UsageError
from vigie_department.ingest.decode import decode
from vigie_department.ingest.store import Store
from vigie_department.rollout import service, status, ticking
from vigie_department.rollout.engine import Stage

pytestmark = pytest.mark.usefixtures("db")

ANNE = Actor("anne", "192.0.2.7")
NOW = datetime.fromtimestamp(START, UTC)
BOXES = 40


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a department whose keyholders signed two releases."""
    made = department.write(tmp_path_factory.mktemp("repository"))
    publish(made, {OLD: None, STEP: None, GOAL: None})
    return made.paths.repository


@pytest.fixture(autouse=True)
def place(config: Config, repository: Path, tmp_path: Path) -> Iterator[Config]:
    """The shared department, with that repository and a lock of its own."""
    here = replace(config, paths=replace(config.paths, repository=repository, data=tmp_path))
    with override_settings(VIGIE=here):
        yield here


@pytest.fixture(autouse=True)
def signer(db: None) -> Iterator[LocalSigner]:
    with local() as (made, _authority):
        yield made


@pytest.fixture(autouse=True)
def boxes(db: None) -> list[Box]:
    made = []
    for n in range(BOXES):
        commune = Commune.objects.create(
            insee=f"59{n:03}", name=f"Commune {n}", epci=f"EPCI {n % 5}", opening="lu-ve 9h-17h"
        )
        made.append(Box.objects.create(id=box_id(f"r{n}"), state=Box.State.ACTIVE, commune=commune, model="cm4"))
        BoxStatus.objects.create(box=made[-1], online=True, session=1, seen=NOW, version=str(OLD))
    return made


def begun(*waves: str, **settings: int) -> Rollout:
    service.plan(ANNE, str(GOAL), waves or ("1", "25%"), settings, "correctif", now=NOW)
    return service.start(ANNE, str(GOAL), "allons-y", now=NOW)


def tick(days: float = 0.0) -> Any:
    return ticking.tick(NOW + timedelta(days=days))


def told() -> dict[str, tuple[str, int]]:
    """box -> what its newest queued document says of firmware."""
    found: dict[str, tuple[str, int]] = {}
    for row in DesiredState.objects.order_by("version"):
        firmware = row.payload.get("firmware")
        found.pop(row.box_id, None)
        if firmware:
            found[row.box_id] = (firmware["version"], firmware["order"])
    return found


def say(box: str, phase: str, *, running: object = OLD, order: int = 1, days: float = 0.0, **more: Any) -> None:
    """Its state, as it arrives."""
    firmware = {"version": str(GOAL), "order": order, "phase": phase, "code": None, "check": None, "tries": 0}
    body = state(2, version=str(running), firmware=firmware | {"floor": None} | more)
    say.seq += 1  # type: ignore[attr-defined]
    outbox = Outbox(box, seq=say.seq)  # type: ignore[attr-defined]
    Store().write([decode(*outbox.message("state", body))], NOW + timedelta(days=days))


say.seq = 0  # type: ignore[attr-defined]


def members(outcome: str) -> set[str]:
    return set(RolloutBox.objects.filter(outcome=outcome).values_list("box", flat=True))


class TestOrders:
    def test_the_first_wave_is_told_by_its_document(self, signer: LocalSigner) -> None:
        begun()
        done = tick()
        assert (done.ordered, done.left) == (1, 0)
        (box,) = members("ordered")
        assert told() == {box: (str(GOAL), 1)}
        message = Outgoing.objects.get()
        assert (message.topic, message.retain) == (f"vigie/v1/{box}/down/desired", True)
        actions = list(AuditEntry.objects.filter(box=box).order_by("id").values_list("action", flat=True))
        assert actions == ["firmware.order", "desired.sign"]
        assert FirmwareOrder.objects.get().version == str(GOAL)

    def test_a_tick_again_changes_nothing(self) -> None:
        begun()
        tick()
        before = (DesiredState.objects.count(), AuditEntry.objects.count())
        assert tick(0.1).ordered == 0
        assert (DesiredState.objects.count(), AuditEntry.objects.count()) == before
        # nor does what renews documents: it comes to the same
        desired.renew(audit.INGEST)
        assert list(told().values()) == [(str(GOAL), 1)]

    def test_wave_after_wave(self) -> None:
        begun()
        tick()
        (first,) = members("ordered")
        say(first, "good", running=GOAL, days=0.5)
        assert tick(0.9).ordered == 0
        assert members("good") == {first}
        assert tick(1.1).ordered == 9
        assert AuditEntry.objects.get(action="rollout.wave").detail == {"firmware": str(GOAL), "wave": 2}
        for box in members("ordered"):
            say(box, "good", running=GOAL, days=1.5)
        assert tick(2.2).ordered == 30
        for box in members("ordered"):
            say(box, "good", running=GOAL, days=2.5)
        assert tick(3.3).stage is Stage.DONE
        assert AuditEntry.objects.filter(action="firmware.good").count() == BOXES

    def test_a_bad_release_stops_and_is_taken_back(self) -> None:
        begun("1", "25%", fail_least=1)
        tick()
        (first,) = members("ordered")
        say(first, "rolled-back", code="unhealthy", check="forward")
        done = tick(0.1)
        assert (done.stage, done.withdrawn) == (Stage.STOPPED, 1)
        assert told() == {}
        entry = AuditEntry.objects.get(action="firmware.failed")
        assert (entry.box, entry.detail["code"], entry.detail["check"]) == (first, "unhealthy", "forward")
        row = Rollout.objects.get()
        assert row.reason == "vague 1 : échecs 1 sur 1, arrêt à 1"
        (alarm,) = status.alarms()
        assert "rollout resume" in alarm.todo
        # and nothing goes on by itself
        assert tick(30).ordered == 0
        assert Rollout.objects.get().stage == Stage.STOPPED

    def test_a_stop_is_never_late_for_want_of_the_signer(self, signer: LocalSigner) -> None:
        begun(fail_least=1)
        tick()
        (first,) = members("ordered")
        say(first, "rolled-back")
        signer.away = True
        done = tick(0.1)
        assert (done.stage, done.withdrawn, done.left) == (Stage.STOPPED, 0, 1)
        assert told() != {}
        signer.away = False
        assert tick(0.2).withdrawn == 1
        assert told() == {}

    def test_nor_of_the_repository(self, place: Config, tmp_path: Path) -> None:
        begun(fail_least=1)
        tick()
        (first,) = members("ordered")
        say(first, "rolled-back")
        broken = replace(place, paths=replace(place.paths, repository=tmp_path))
        (tmp_path / "metadata").mkdir()
        with override_settings(VIGIE=broken):
            assert tick(0.1).stage is Stage.STOPPED

    def test_the_signer_sets_the_pace(self, signer: LocalSigner, monkeypatch: pytest.MonkeyPatch) -> None:
        begun()
        tick()
        (first,) = members("ordered")
        say(first, "good", running=GOAL)
        left = [4]
        sign = LocalSigner.sign_desired

        def paced(self: LocalSigner, payload: Any, operator: str) -> bytes:
            if left[0] == 0:
                raise RefusedError("signer: too many signatures of the kind `firmware`; the next one in 60 s", "rate")
            left[0] -= 1
            return sign(self, payload, operator)

        monkeypatch.setattr(LocalSigner, "sign_desired", paced)
        done = tick(1.1)
        assert (done.ordered, done.left, done.paced) == (4, 5, True)
        assert len(members("ordered")) == 4
        assert FirmwareOrder.objects.exclude(box=first).count() == 4
        left[0] = 9
        assert tick(1.2).ordered == 5
        assert not any(alarm.todo for alarm in status.alarms() if "wait" in alarm.text)

    def test_order_numbers_rise_above_what_the_box_had(self) -> None:
        BoxStatus.objects.update(firmware_order=41)
        begun()
        tick()
        assert list(told().values()) == [(str(GOAL), 42)]

    def test_new_boxes_and_those_that_left(self, boxes: list[Box]) -> None:
        begun()
        tick()
        Box.objects.create(id=box_id("new"), state=Box.State.ACTIVE)
        Box.objects.filter(pk__in=members("ordered")).update(state=Box.State.REVOKED)
        tick(0.1)
        assert len(members("left")) == 1
        assert RolloutBox.objects.get(box=box_id("new")).wave == 2


class TestSilence:
    def test_three_opening_days(self) -> None:
        begun(fail_least=1)
        tick()
        assert tick(3).stage is Stage.RUNNING
        assert tick(4).stage is Stage.STOPPED
        assert len(members("silent")) == 1

    def test_of_the_hours_that_it_keeps(self) -> None:
        Commune.objects.update(opening="ma 9h-12h ; je 9h-12h")
        begun(fail_least=1)
        tick()
        assert tick(7).stage is Stage.RUNNING  # Tuesday and Thursday went by
        assert tick(9).stage is Stage.STOPPED

    def test_or_as_it_was_seen_before(self) -> None:
        Commune.objects.update(opening="")
        begun(fail_least=1)
        tick()
        (box,) = members("ordered")
        for week in (1, 2, 3):
            hour = NOW - timedelta(weeks=week) + timedelta(days=2)  # Wednesdays
            Counter.objects.create(box_id=box, hour=hour, name="frames_in", value=5)
        assert tick(15).stage is Stage.RUNNING
        assert tick(17).stage is Stage.STOPPED


class TestActs:
    def actions(self) -> list[str]:
        found = AuditEntry.objects.filter(actor="anne").order_by("id")
        return [f"{row.action}: {row.detail['reason']}" for row in found]

    def test_each_is_audited(self) -> None:
        begun()
        service.pause(ANNE, "vacances")
        tick()
        assert members("ordered") == set()
        service.resume(ANNE, "retour")
        tick()
        service.abort(ANNE, "autre version")
        assert tick().withdrawn == 1
        assert self.actions() == [
            "rollout.plan: correctif",
            "rollout.start: allons-y",
            "rollout.pause: vacances",
            "rollout.resume: retour",
            "rollout.abort: autre version",
        ]

    def test_after_a_stop_the_failed_are_told_again_with_a_new_number(self) -> None:
        begun(fail_least=1)
        tick()
        (box,) = members("ordered")
        say(box, "failed", code="no-space")
        tick(0.1)
        service.resume(ANNE, "place faite", now=NOW)
        assert tick(0.2).ordered == 1
        assert told() == {box: (str(GOAL), 2)}
        # the old word of the box is about the old order
        assert tick(0.3).stage is Stage.RUNNING
        say(box, "good", running=GOAL, order=2)
        assert tick(1.5).ordered == 9

    def test_or_left_alone_when_others_succeeded(self) -> None:
        begun("1", "25%")
        tick()
        (first,) = members("ordered")
        say(first, "good", running=GOAL)
        tick(1.1)
        bad = sorted(members("ordered"))[:2]
        for box in bad:
            say(box, "failed")
        assert tick(1.2).stage is Stage.STOPPED
        service.resume(ANNE, "imprimantes anciennes", skip_failed=True)
        done = tick(1.3)
        assert (done.stage, done.ordered) == (Stage.RUNNING, 7)
        assert set(RolloutBox.objects.filter(forgiven=True).values_list("box", flat=True)) == set(bad)

    def test_not_when_nobody_did(self) -> None:
        begun(fail_least=1)
        tick()
        (box,) = members("ordered")
        say(box, "failed")
        tick(0.1)
        with pytest.raises(StateError, match="première vague"):
            service.resume(ANNE, "tant pis", skip_failed=True)

    def test_one_at_a_time(self) -> None:
        begun()
        service.plan(ANNE, str(GOAL), (), {}, "encore", now=NOW)
        with pytest.raises(StateError, match="n'est pas fini"):
            service.start(ANNE, str(GOAL), "encore")
        service.abort(ANNE, "recommençons")
        service.start(ANNE, str(GOAL), "encore")
        assert list(Rollout.objects.order_by("id").values_list("stage", flat=True)) == ["superseded", "running"]

    def test_no_way_back(self) -> None:
        begun()
        service.abort(ANNE, "x")
        with pytest.raises(StateError, match="ne revient pas en arrière"):
            service.plan(ANNE, str(STEP), (), {}, "retour", now=NOW)

    @pytest.mark.parametrize(
        ("version", "waves", "settings", "error"),
        [
            ("2026.12.1", (), {}, UsageError),
            ("dernière", (), {}, MessageError),
            (str(GOAL), ("10",), {}, UsageError),
            (str(GOAL), (), {"fail_percent": 90}, UsageError),
        ],
    )
    def test_refused_plans(
        self, version: str, waves: tuple[str, ...], settings: dict[str, int], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            service.plan(ANNE, version, waves, settings, "x")
        assert not Rollout.objects.exists()

    def test_nothing_to_act_on(self) -> None:
        assert tick() is None
        for act in (service.pause, service.resume, service.abort):
            with pytest.raises(StateError):
                act(ANNE, "x")
        with pytest.raises(StateError, match="rollout plan"):
            service.start(ANNE, str(GOAL), "x")

    def test_status(self) -> None:
        begun()
        tick()
        row = status.latest()
        assert row is not None
        shown = status.show(row, boxes=True)
        assert [(one["wave"], one["boxes"], one["under_way"]) for one in shown["waves"]] == [
            (1, 1, 1),
            (2, 9, 0),
            (3, 30, 0),
        ]
        assert len(shown["not_good"]) == BOXES
        json.dumps(shown, default=str)
        assert "2026.11.2 : en cours" in status.text(shown)


class TestFreeze:
    def test_election_days(self) -> None:
        begun()
        service.freeze(ANNE, date(2026, 11, 2), date(2026, 11, 8), "élections")
        assert tick().ordered == 0
        assert tick(6.5).ordered == 0
        assert tick(7).ordered == 1

    def test_what_waits_is_taken_back_and_told_again(self) -> None:
        begun()
        tick()
        (box,) = members("ordered")
        say(box, "waiting")
        frozen = service.freeze(ANNE, date(2026, 11, 3), date(2026, 11, 4), "élections")
        assert tick(1).withdrawn == 1
        assert told() == {}
        service.unfreeze(ANNE, frozen.pk, "reportées")
        assert tick(1.1).ordered == 1
        assert told() == {box: (str(GOAL), 2)}

    @pytest.mark.parametrize(("first", "last"), [(2, 1), (1, 200)])
    def test_refused(self, first: int, last: int) -> None:
        with pytest.raises(UsageError):
            service.freeze(ANNE, date(2026, 11, 1) + timedelta(first), date(2026, 11, 1) + timedelta(last), "x")
        with pytest.raises(UsageError):
            service.unfreeze(ANNE, 12345, "x")
