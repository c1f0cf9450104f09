"""What one batch writes: rows once, sums, the newest state, what cannot be read kept aside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from tests.support.messages import Outbox, alert, box_id, metric, state
from vigie_department.console.models import (
    Alert,
    Aside,
    AuditEntry,
    Box,
    BoxStatus,
    Command,
    Counter,
    DesiredState,
    Diagnostic,
    ExceptionRequest,
    Observation,
    Receipt,
)
from vigie_department.ingest import store as module
from vigie_department.ingest.decode import Poison, Report, decode
from vigie_department.ingest.store import Store

pytestmark = pytest.mark.usefixtures("db")

BOX = box_id("store")


@pytest.fixture
def box(db: None) -> Box:
    return Box.objects.create(id=BOX, serial="S-1", state=Box.State.ACTIVE)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(BOX)


def items(*messages: tuple[str, bytes]) -> list[Report | Poison]:
    return [decode(topic, payload) for topic, payload in messages]


@pytest.mark.usefixtures("box")
class TestRows:
    def test_an_alert_is_stored_as_sent(self, outbox: Outbox) -> None:
        answer = Store().write(items(outbox.message("alert", alert(7, severity=3, indicator=None, device=None))))
        row = Alert.objects.get()
        assert (row.alert_id, row.rule, row.severity, row.indicator, row.device) == (7, "toxic-name", 3, None, None)
        assert abs(row.sent - timezone.now()) < timedelta(seconds=5)
        assert answer == {(BOX, outbox.boot): 1}

    def test_a_repeated_message_is_stored_once_and_confirmed_again(self, outbox: Outbox) -> None:
        store = Store()
        one = items(outbox.message("metric", metric()))
        assert store.write(one) == store.write(one) == Store().write(one) == {(BOX, outbox.boot): 1}
        assert {row.name: row.value for row in Counter.objects.all()} == {
            "blocked:35": 3,
            "blocked:36": 1,
            "frames_in": 12,
            "frames_out": 9,
        }

    def test_the_same_in_one_batch(self, outbox: Outbox) -> None:
        message = outbox.message("metric", metric(frames={"in": 5, "out": 0}, blocked={}))
        Store().write(items(message, message, outbox.message("metric", metric(frames={"in": 2, "out": 0}, blocked={}))))
        assert Counter.objects.get(name="frames_in").value == 7

    def test_an_alert_that_grows_keeps_its_row(self, outbox: Outbox) -> None:
        store = Store()
        first = outbox.message("alert", alert(7, count=1))
        second = outbox.message("alert", alert(7, count=5))
        store.write(items(first))
        Alert.objects.update(handled=timezone.now())
        store.write(items(second))
        row = Alert.objects.get()
        assert (row.count, row.seq) == (5, 2)
        assert row.handled is not None

    def test_an_older_word_that_comes_late_changes_nothing(self, outbox: Outbox) -> None:
        store = Store()
        first, second = outbox.message("alert", alert(7, count=1)), outbox.message("alert", alert(7, count=5))
        assert store.write(items(second)) == {}
        assert store.write(items(first)) == {(BOX, outbox.boot): 2}
        assert Alert.objects.get().count == 5

    def test_candidate_counts_add_up(self, outbox: Outbox) -> None:
        store = Store()
        for _ in range(2):
            body = metric(candidate=12, observed={"new.example": 2, "192.0.2.0/24": 1})
            store.write(items(outbox.message("metric", body)))
        found = {row.indicator: row.count for row in Observation.objects.filter(candidate=12)}
        assert found == {"new.example": 4, "192.0.2.0/24": 2}

    def test_requests_and_diagnostics(self, outbox: Outbox) -> None:
        consent = {"at": 1_790_000_000, "by": "mairie"}
        Store().write(
            items(
                outbox.message(
                    "request",
                    {
                        "indicator": "toxic.example",
                        "device": None,
                        "days": 30,
                        "words": "Notre logiciel d'état civil",
                        "consent": consent,
                    },
                ),
                outbox.message("diagnostic", {"command": "ab" * 16, "consent": consent, "items": {"dmesg": "…"}}),
            )
        )
        assert ExceptionRequest.objects.get().words == "Notre logiciel d'état civil"
        assert Diagnostic.objects.get().items == {"dmesg": "…"}

    def test_times_beyond_the_calendar_are_stored(self, outbox: Outbox) -> None:
        far = 2**40 // 3600 * 3600
        Store().write(items(outbox.message("alert", alert(1, first=0, last=far))))
        assert Alert.objects.get().last.year == 9999


@pytest.mark.usefixtures("box")
class TestState:
    def test_the_latest_session_and_number_win(self) -> None:
        store = Store()
        old, new = Outbox(BOX, boot="1" * 32), Outbox(BOX, boot="2" * 32)
        store.write(items(old.message("state", state(1, isolation=1)), old.message("state", state(1, isolation=2))))
        assert BoxStatus.objects.get().isolation == 2
        late = old.message("state", state(1, isolation=3))
        store.write(items(new.message("state", state(2, isolation=0)), late))
        status = BoxStatus.objects.get()
        assert (status.session, status.isolation, status.online) == (2, 0, True)

    def test_a_last_will_ends_its_own_session_only(self) -> None:
        store, box = Store(), Outbox(BOX)
        store.write(items(box.message("state", state(4))))
        will = {"online": False, "session": 3}
        store.write(items(box.message("state", will)))
        assert BoxStatus.objects.get().online is True
        store.write(items(box.message("state", will | {"session": 4})))
        assert BoxStatus.objects.get().online is False

    def test_a_box_that_only_left_has_a_status(self) -> None:
        Store().write(items(Outbox(BOX).message("state", {"online": False, "session": 3})))
        status = BoxStatus.objects.get()
        assert (status.online, status.session) == (False, 3)

    def test_how_far_an_update_is(self) -> None:
        store, box = Store(), Outbox(BOX)
        told = {
            "version": "2026.11.1", "order": 4, "phase": "rolled-back", "code": "unhealthy", "check": "forward",
            "tries": 1, "floor": "2026.9.1",
        }  # fmt: skip
        store.write(items(box.message("state", state(1, firmware=told))))
        row = BoxStatus.objects.values(*(f"firmware_{name}" for name in told)).get()
        assert row == {f"firmware_{name}": value for name, value in told.items()}
        store.write(items(box.message("state", state(1))))
        assert BoxStatus.objects.get().firmware_phase == ""

    def test_a_last_will_that_comes_again_is_no_sign_of_life(self) -> None:
        """It is retained: the broker gives it to each new subscription."""
        now = timezone.now()
        box = Outbox(BOX)
        Store().write(items(box.message("state", state(1))), now - timedelta(days=30))
        Store().write(items(box.message("state", {"online": False, "session": 1})), now)
        assert BoxStatus.objects.get().seen == now - timedelta(days=30)

    def test_a_state_is_not_confirmed(self) -> None:
        assert Store().write(items(Outbox(BOX).message("state", state()))) == {}
        assert not Receipt.objects.exists()


@pytest.mark.usefixtures("box")
class TestAcks:
    def test_a_command_gets_its_answer_once(self, outbox: Outbox) -> None:
        now = timezone.now()
        Command.objects.create(
            id="c" * 32, box_id=BOX, op="self-test", issued=now, expires=now, envelope=b"", operator="a"
        )
        ack = {"order": "command", "id": "c" * 32, "result": "refused", "code": "replayed", "detail": []}
        store = Store()
        store.write(items(outbox.message("ack", ack)))
        store.write(items(outbox.message("ack", ack | {"result": "done", "code": None})))
        row = Command.objects.get()
        assert (row.state, row.code) == ("refused", "replayed")

    def test_an_answer_of_another_box_changes_nothing(self, outbox: Outbox) -> None:
        other = Box.objects.create(id=box_id("other"))
        now = timezone.now()
        Command.objects.create(
            id="c" * 32, box=other, op="self-test", issued=now, expires=now, envelope=b"", operator="a"
        )
        ack = {"order": "command", "id": "c" * 32, "result": "done", "code": None, "detail": []}
        Store().write(items(outbox.message("ack", ack)))
        assert Command.objects.get().state == "sent"

    def test_a_document_gets_its_answer(self, outbox: Outbox) -> None:
        now = timezone.now()
        DesiredState.objects.create(
            box_id=BOX, version=9, issued=now, expires=now, payload={}, envelope=b"", digest="", operator="a"
        )
        detail = ["exceptions[0]:never-block"]
        ack = {"order": "desired", "version": 9, "result": "partial", "code": None, "detail": detail}
        Store().write(items(outbox.message("ack", ack)))
        row = DesiredState.objects.get()
        assert (row.result, row.detail) == ("partial", detail)
        # A broker that repeats it is refused by the box, which changes nothing about what was in force.
        older = {"order": "desired", "version": 9, "result": "refused", "code": "older", "detail": []}
        Store().write(items(outbox.message("ack", older)))
        assert DesiredState.objects.get().result == "partial"


class TestUnknown:
    def test_a_box_that_is_in_no_register_is_kept(self, outbox: Outbox) -> None:
        Store().write(items(outbox.message("alert", alert())))
        assert Box.objects.get().state == Box.State.UNKNOWN
        assert AuditEntry.objects.filter(action="box.unknown", box=BOX).count() == 1

    def test_a_new_kind_of_body_is_kept_aside_and_confirmed(self, outbox: Outbox) -> None:
        store = Store()
        newer = outbox.message("alert", alert(1, colour="red"))
        answer = store.write(items(newer, outbox.message("alert", alert(2))))
        assert answer == {(BOX, outbox.boot): 2}
        assert bytes(Aside.objects.get().payload) == newer[1]
        assert Alert.objects.get().alert_id == 2
        assert store.totals.poison == 1

    @pytest.mark.parametrize(
        "payload",
        [b"", b"{", b"[]", b"\xff", b"null", b'{"v":1}', b"[" * 70_000, b'{"boot":1,"seq":true,"prev":0}'],
    )
    def test_what_has_no_header_is_kept_aside(self, payload: bytes) -> None:
        assert Store().write(items((f"vigie/v1/{BOX}/up/alert", payload))) == {}
        assert Aside.objects.get().size == len(payload)

    def test_a_topic_of_nobody_is_kept_aside(self) -> None:
        Store().write(items(("vigie/v1/../up/alert", b"{}")))
        assert Aside.objects.count() == 1
        assert not Box.objects.exists()

    def test_a_flood_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ASIDE_PER_BOX_HOUR", 3)
        store = Store()
        for _ in range(4):
            store.write(items(*[(f"vigie/v1/{BOX}/up/alert", b"{")] * 2))
        assert (Aside.objects.count(), store.totals.poison) == (3, 8)
        assert AuditEntry.objects.filter(action="message.aside").count() == 1
        monkeypatch.setattr(module, "ASIDE_MAX", 2)
        store.write(items((f"vigie/v1/{box_id('b')}/up/alert", b"{")))
        assert Aside.objects.count() == 2
        assert Aside.objects.filter(topic__contains=box_id("b")).exists()


class TestFailure:
    def test_nothing_is_remembered_of_a_batch_that_failed(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Box.objects.create(id=BOX)
        store = Store()
        batch = items(outbox.message("alert", alert()))

        def broken(*_: Any) -> None:
            raise DatabaseError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(Store, "_answers", staticmethod(broken))
            with pytest.raises(DatabaseError):
                store.write(batch)
        assert not Alert.objects.exists()
        assert not Receipt.objects.exists()
        assert store.totals.messages == 0
        assert store.write(batch) == {(BOX, outbox.boot): 1}
        assert Alert.objects.count() == 1

    def test_receipts_that_left_memory_are_read_again(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        Box.objects.create(id=BOX)
        monkeypatch.setattr(module, "MARKS_MAX", 0)
        store = Store()
        first, _lost, third = (outbox.message("alert", alert(n)) for n in (1, 2, 3))
        assert store.write(items(first)) == {(BOX, outbox.boot): 1}
        assert store.write(items(third)) == {(BOX, outbox.boot): 1}
        assert store.write(items(third, first)) == {(BOX, outbox.boot): 1}
        assert store.write(items(_lost)) == {(BOX, outbox.boot): 3}
        assert Alert.objects.count() == 3

    def test_many_boxes_in_one_batch(self) -> None:
        boxes = [Outbox(box_id(f"b{n}")) for n in range(600)]
        Box.objects.bulk_create(Box(id=box.box) for box in boxes)
        batch = items(*(box.message("alert", alert(n)) for box in boxes for n in (1, 2)))
        answer = Store().write(batch)
        assert set(answer.values()) == {2}
        assert len(answer) == 600
        assert Alert.objects.count() == 1200


def test_sql_names_every_column_that_must_have_a_value() -> None:
    """A column added to a model without a default would break inserts: found here and not in service."""
    from vigie_department.ingest import sql

    for statement in (
        sql.ALERTS,
        sql.COUNTERS,
        sql.OBSERVATIONS,
        sql.REQUESTS,
        sql.DIAGNOSTICS,
        sql.STATES,
        sql.OFFLINE,
    ):
        table, columns, _conflict = statement
        with connection.cursor() as cursor:
            described = connection.introspection.get_table_description(cursor, table)
        needed = {column.name for column in described if not column.null_ok} - {"id"}
        assert needed <= set(columns), f"{table}: {needed - set(columns)}"
