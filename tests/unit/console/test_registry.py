"""What the authority did, as the fleet's tables tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from tests.support.messages import Outbox, box_id, state
from tests.support.signing import LocalAuthority, LocalSigner, local
from vigie_department.console.models import (
    Alert,
    AuditEntry,
    Box,
    BoxStatus,
    Certificate,
    Claim,
    Commune,
    Cursor,
    DesiredState,
)
from vigie_department.console.services import desired
from vigie_department.console.services.audit import Actor
from vigie_department.ingest import registry
from vigie_department.ingest.decode import decode
from vigie_department.ingest.store import Store

pytestmark = pytest.mark.usefixtures("db")

BOX = box_id("registry")
NOW = 1_790_000_000


@pytest.fixture(autouse=True)
def services(db: None) -> Iterator[tuple[LocalSigner, LocalAuthority]]:
    with local() as made:
        yield made


class Log:
    """The authority's log."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, kind: str, box: str = BOX, serial: str = "S-1", **detail: Any) -> None:
        number = len(self.events) + 1
        self.events.append(
            {"id": number, "at": NOW + number, "kind": kind, "serial": serial, "box": box, "detail": detail}
        )

    def read(self, after: int, limit: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event["id"] > after][:limit]


@pytest.fixture
def log() -> Log:
    return Log()


def certificate(number: str) -> dict[str, Any]:
    return {"cert_serial": number, "not_before": NOW, "not_after": NOW + 90 * 86400}


def states() -> dict[str, str]:
    return dict(Certificate.objects.values_list("number", "state"))


def test_from_the_register_to_a_second_certificate(log: Log) -> None:
    log.add("registered", claim_id="C-1", model="cm4", lot="L1")
    assert registry.pull(log.read) == (1, [])
    assert Box.objects.get().state == Box.State.REGISTERED
    log.add("enrolled", **certificate("aa"))
    log.add("confirmed", **certificate("aa"))
    assert registry.pull(log.read) == (2, [BOX, BOX])
    box = Box.objects.get()
    assert (box.state, box.serial, box.claim_id, box.model, box.lot) == ("active", "S-1", "C-1", "cm4", "L1")
    assert box.registered is not None
    assert box.enrolled is not None
    log.add("renewed", **certificate("bb"))
    registry.pull(log.read)
    assert states() == {"aa": "active", "bb": "pending"}
    log.add("confirmed", **certificate("bb"))
    registry.pull(log.read)
    assert states() == {"aa": "superseded", "bb": "active"}
    assert Box.objects.get().state == Box.State.ACTIVE


def test_an_event_is_applied_once(log: Log) -> None:
    log.add("registered", claim_id="C-1")
    log.add("conflict", reason="no join state")
    for _ in range(3):
        registry.pull(log.read)
    assert Alert.objects.count() == 1
    assert AuditEntry.objects.filter(action="authority.conflict").count() == 1
    assert Cursor.objects.get(name=registry.CURSOR).value == 2


def test_pages(log: Log) -> None:
    for number in range(7):
        log.add("registered", box=box_id(f"p{number}"), serial=f"S-{number}", claim_id=f"C-{number}")
    assert [registry.pull(log.read, 3)[0] for _ in range(4)] == [3, 3, 1, 0]
    assert Box.objects.count() == 7


@pytest.mark.parametrize(
    ("kind", "wanted", "severity"),
    [
        ("conflict", Box.State.CONFLICT, 2),
        ("clone", Box.State.CLONE, 3),
        ("decommissioned", Box.State.DECOMMISSIONED, None),
    ],
)
def test_what_a_person_must_see_is_an_alert(log: Log, kind: str, wanted: str, severity: int | None) -> None:
    log.add("confirmed", **certificate("aa"))
    log.add(kind, reason="why", cert_serials=["aa"])
    registry.pull(log.read)
    assert Box.objects.get().state == wanted
    assert states() == {"aa": "revoked"}
    alerts = list(Alert.objects.values_list("rule", "severity"))
    assert alerts == ([(kind, severity)] if severity is not None else [])


def test_a_released_box_may_start_again(log: Log) -> None:
    for kind in ("confirmed", "clone", "released", "enrolled", "confirmed"):
        log.add(kind, **certificate("aa" if kind == "confirmed" else "cc"))
    registry.pull(log.read)
    assert Box.objects.get().state == Box.State.ACTIVE


def test_what_people_decided_stays(log: Log) -> None:
    log.add("confirmed", **certificate("aa"))
    registry.pull(log.read)
    Box.objects.update(state=Box.State.REPLACED)
    log.add("revoked", reason="replaced", cert_serials=["aa"])
    registry.pull(log.read)
    assert Box.objects.get().state == Box.State.REPLACED
    assert states() == {"aa": "revoked"}


def test_a_wiped_box_is_heard_again(log: Log) -> None:
    """Its sessions start at 1 again: without the authority's word its states would be taken for old ones."""
    Store().write([decode(*Outbox(BOX).message("state", state(40)))])
    assert BoxStatus.objects.get().session == 40
    log.add("enrolled", **certificate("dd"))
    registry.pull(log.read)
    Store().write([decode(*Outbox(BOX, boot="c" * 32).message("state", state(1, isolation=1)))])
    assert (BoxStatus.objects.get().session, BoxStatus.objects.get().isolation) == (1, 1)


def test_who_spoke_before_its_register_came_is_the_same_box(log: Log) -> None:
    Store().write([decode(*Outbox(BOX).message("state", state(1)))])
    assert Box.objects.get().state == Box.State.UNKNOWN
    log.add("registered", claim_id="C-1")
    registry.pull(log.read)
    assert (Box.objects.get().state, Box.objects.get().serial) == (Box.State.REGISTERED, "S-1")


def test_an_unknown_serial_is_a_line_and_no_box(log: Log) -> None:
    log.add("unknown", box="", serial="S-666", source="192.0.2.1")
    registry.pull(log.read)
    assert not Box.objects.exists()
    assert AuditEntry.objects.get().detail == {"serial": "S-666", "source": "192.0.2.1"}


def test_a_kind_of_a_newer_authority_is_kept(log: Log) -> None:
    log.add("audited", action="x", what="y", colour="red")
    registry.pull(log.read)
    assert AuditEntry.objects.get().detail["colour"] == "red"


def test_an_enrolled_box_gets_its_document(log: Log, services: tuple[LocalSigner, LocalAuthority]) -> None:
    Commune.objects.create(insee="59350", name="Lille")
    log.add("registered", claim_id="C-1")
    log.add("enrolled", **certificate("aa"))
    _count, enrolled = registry.pull(log.read)
    for name in enrolled:
        desired.issue(Box.objects.get(pk=name), Actor("ingest"), "enrolled")
    assert DesiredState.objects.get().version == 1


def test_a_box_of_a_busy_commune_does_not_stop_the_log(log: Log, services: tuple[LocalSigner, LocalAuthority]) -> None:
    """Its label was promised to a commune that has another box by now: a person decides, the log goes on."""
    lille = Commune.objects.create(insee="59350", name="Lille")
    Box.objects.create(id=box_id("first"), state=Box.State.ACTIVE, commune=lille)
    Claim.objects.create(claim_id="C-1", commune=lille, at=timezone.now(), by="anne")
    log.add("registered", claim_id="C-1")
    assert registry.pull(log.read)[0] == 1
    assert Box.objects.get(pk=BOX).commune is None
    assert AuditEntry.objects.filter(action="claim.refused").count() == 1


def test_a_board_with_a_new_identity_keeps_its_label(log: Log) -> None:
    log.add("registered", claim_id="C-1")
    log.add("registered", box=box_id("second"), claim_id="C-1")
    assert registry.pull(log.read)[0] == 2
    labels = {box.pk: (box.serial, box.claim_id) for box in Box.objects.all()}
    assert labels == {BOX: (None, None), box_id("second"): ("S-1", "C-1")}
