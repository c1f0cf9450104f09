"""What operators do: each edit reaches the box as one signed document, and the audit as one entry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from tests.support.messages import box_id
from tests.support.signing import LocalAuthority, LocalSigner, local
from vigie.contract.identity import claim_id
from vigie_department.console.models import (
    AuditEntry,
    Box,
    BoxStatus,
    Claim,
    Command,
    Commune,
    DesiredState,
    ExceptionRequest,
    Isolation,
    NeverBlock,
    Outgoing,
    PolicyException,
    Quarantine,
)
from vigie_department.console.services import communes, desired, fleet, mass, orders
from vigie_department.console.services.audit import Actor
from vigie_department.errors import RefusedError, StateError, UnavailableError, UsageError

pytestmark = pytest.mark.usefixtures("db")

ANNE = Actor("anne", "192.0.2.7")
DEVICE = "d-0123456789abcdef"
CLAIM = claim_id(b"\x01" * 8)


@pytest.fixture
def services(db: None) -> Iterator[tuple[LocalSigner, LocalAuthority]]:
    with local() as made:
        yield made


@pytest.fixture
def signer(services: tuple[LocalSigner, LocalAuthority]) -> LocalSigner:
    return services[0]


@pytest.fixture
def authority(services: tuple[LocalSigner, LocalAuthority]) -> LocalAuthority:
    return services[1]


@pytest.fixture
def commune(db: None) -> Commune:
    return Commune.objects.create(insee="59350", name="Lille", opening="lu-ve 9h-17h")


@pytest.fixture
def box(commune: Commune) -> Box:
    return Box.objects.create(
        id=box_id("one"), serial="S-1", claim_id=CLAIM, state=Box.State.ACTIVE, commune=commune, location="baie 1"
    )


def later(**span: float) -> timedelta:
    return timedelta(**span)


def allow(scope: orders.Scope, target: str = "ok.example") -> PolicyException:
    return orders.add_exception(ANNE, scope, "allow", target, timezone.now() + later(days=30), "logiciel métier")


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


class TestDocuments:
    def test_an_edit_is_signed_queued_and_audited(self, box: Box, signer: LocalSigner) -> None:
        allow(orders.Scope(box=box))
        document = DesiredState.objects.get()
        assert [one.target for one in signer.signed[-1].exceptions] == ["ok.example"]
        message = Outgoing.objects.get()
        assert (message.topic, message.retain) == (f"vigie/v1/{box.pk}/down/desired", True)
        assert bytes(message.payload) == bytes(document.envelope)
        entry = AuditEntry.objects.get(action="exception.add")
        assert (entry.actor, entry.address, entry.box) == ("anne", "192.0.2.7", box.pk)

    def test_settings_come_from_the_commune(self, box: Box, signer: LocalSigner, commune: Commune) -> None:
        commune.volunteer = True
        communes.edit(ANNE, commune, {"volunteer": True})
        settings = signer.signed[-1].settings
        assert settings.volunteer is True
        assert [(one.day, one.start, one.end) for one in settings.hours] == [(day, 540, 1020) for day in range(5)]

    def test_the_same_content_is_not_signed_twice(self, box: Box, signer: LocalSigner) -> None:
        assert desired.issue(box, ANNE, "") is True
        assert desired.issue(box, ANNE, "") is False
        assert desired.issue(box, ANNE, "", force=True) is True
        assert [one.version for one in signer.signed] == [1, 2]

    def test_versions_rise_above_what_the_box_has(self, box: Box, signer: LocalSigner) -> None:
        """After a restore from an old backup."""
        desired.issue(box, ANNE, "")
        BoxStatus.objects.create(box=box, desired_version=40)
        assert desired.renew(ANNE) == 1
        assert signer.signed[-1].version == 41
        assert desired.renew(ANNE) == 0

    def test_the_signer_may_be_ahead_of_the_tables(self, box: Box, signer: LocalSigner) -> None:
        """It had signed when this process died."""
        signer.versions[box.pk] = 10
        assert desired.issue(box, ANNE, "") is True
        assert 10 < signer.signed[-1].version < 30
        assert DesiredState.objects.get().version == signer.signed[-1].version

    def test_a_rule_of_a_commune_and_of_all(self, box: Box, signer: LocalSigner, commune: Commune) -> None:
        other = Box.objects.create(id=box_id("two"), state=Box.State.ACTIVE)
        allow(orders.Scope(commune=commune), "commune.example")
        allow(orders.Scope(), "all.example")
        last = {one.box: [e.target for e in one.exceptions] for one in signer.signed}
        assert last == {box.pk: ["all.example", "commune.example"], other.pk: ["all.example"]}

    def test_nothing_changes_when_the_signer_is_away(self, box: Box, signer: LocalSigner) -> None:
        signer.away = True
        with pytest.raises(UnavailableError):
            allow(orders.Scope(box=box))
        assert not PolicyException.objects.exists()
        assert not Outgoing.objects.exists()
        assert actions() == []

    def test_documents_are_renewed_before_they_expire(self, box: Box, signer: LocalSigner) -> None:
        desired.issue(box, ANNE, "")
        edge = timedelta(days=desired.config().documents.renew_before_days)
        DesiredState.objects.update(expires=timezone.now() + edge + timedelta(hours=1))
        assert desired.renew(ANNE) == 0
        DesiredState.objects.update(expires=timezone.now() + edge - timedelta(hours=1))
        assert desired.renew(ANNE) == 1

    def test_an_edit_that_was_only_partly_signed_is_finished(self, box: Box, signer: LocalSigner) -> None:
        desired.issue(box, ANNE, "")
        NeverBlock.objects.create(target="x.example", note="", created=timezone.now(), created_by="anne")
        assert desired.renew(ANNE) == 1
        assert signer.signed[-1].never_block == ("x.example",)

    def test_a_box_out_of_service_gets_none(self, box: Box, signer: LocalSigner) -> None:
        box.state = Box.State.REVOKED
        box.save()
        assert desired.issue(box, ANNE, "") is False


class TestExceptions:
    def test_removed(self, box: Box, signer: LocalSigner) -> None:
        row = allow(orders.Scope(box=box))
        orders.remove_exception(ANNE, row)
        assert signer.signed[-1].exceptions == ()
        with pytest.raises(StateError):
            orders.remove_exception(ANNE, row)

    @pytest.mark.parametrize(
        ("target", "days", "more"),
        [
            ("localhost", 1, {}),
            ("192.0.2.1/24", 1, {}),
            ("https://ok.example/", 1, {}),
            ("10.0.0.0/8", 1, {}),
            ("ok.example", 0, {}),
            ("ok.example", 400, {}),
            ("ok.example", 1, {"note": " "}),
            ("ok.example", 1, {"note": "x" * 101}),
            ("ok.example", 1, {"port": 443, "proto": "tcp"}),
            ("192.0.2.1", 1, {"port": 443}),
            ("192.0.2.1", 1, {"port": 70000, "proto": "tcp"}),
            ("ok.example", 1, {"device": "00:11:22:33:44:55"}),
            ("ok.example", 1, {"action": "delete"}),
        ],
    )
    def test_what_a_box_would_refuse(self, box: Box, target: str, days: int, more: dict[str, object]) -> None:
        values: dict[str, object] = {"action": "allow", "note": "n"} | more
        action, note = str(values.pop("action")), str(values.pop("note"))
        with pytest.raises(UsageError):
            orders.add_exception(
                ANNE, orders.Scope(box=box), action, target, timezone.now() + timedelta(days=days), note, **values
            )  # type: ignore[arg-type]
        assert not PolicyException.objects.exists()

    def test_a_request_is_granted_once(self, box: Box, signer: LocalSigner) -> None:
        now = timezone.now()
        request = ExceptionRequest.objects.create(
            box=box,
            boot="a" * 32,
            seq=1,
            received=now,
            indicator="x.example",
            days=30,
            consent=now,
            consent_by="mairie",
        )
        made = orders.answer_request(ANNE, request, grant=True)
        assert made is not None
        assert made.until - now > timedelta(days=29)
        with pytest.raises(StateError):
            orders.answer_request(ANNE, request, grant=False)


class TestTemporary:
    def test_isolation_and_its_end(self, box: Box, signer: LocalSigner) -> None:
        orders.isolate(ANNE, box, 2, later(hours=4), "rançongiciel")
        assert signer.signed[-1].isolation.level == 2
        orders.isolate(ANNE, box, 3, later(hours=1), "pire")
        assert signer.signed[-1].isolation.level == 3
        assert Isolation.objects.filter(lifted=None).count() == 1
        orders.isolate(ANNE, box, 0, later(hours=1), "fini")
        assert signer.signed[-1].isolation is None

    def test_it_is_not_longer_than_a_box_allows(self, box: Box) -> None:
        with pytest.raises(UsageError):
            orders.isolate(ANNE, box, 2, later(hours=5), "")
        with pytest.raises(UsageError):
            orders.quarantine(ANNE, box, DEVICE, later(hours=5), "")

    def test_vigilance_may_last(self, box: Box, signer: LocalSigner) -> None:
        orders.isolate(ANNE, box, 1, later(days=30), "élections")
        assert signer.signed[-1].isolation.level == 1

    def test_quarantine_and_its_end(self, box: Box, signer: LocalSigner) -> None:
        orders.quarantine(ANNE, box, DEVICE, later(hours=1), "")
        assert signer.signed[-1].quarantine[0].device == DEVICE
        orders.lift_quarantine(ANNE, box, DEVICE)
        assert signer.signed[-1].quarantine == ()
        with pytest.raises(StateError):
            orders.lift_quarantine(ANNE, box, DEVICE)

    def test_a_mass_order_is_prepared_without_being_ordered(
        self, box: Box, signer: LocalSigner, tmp_path: Path
    ) -> None:
        boxes = [box, *(Box.objects.create(id=box_id(f"m{n}"), state=Box.State.ACTIVE) for n in range(6))]
        envelopes = mass.prepare(ANNE, boxes, 3, later(hours=2), "attaque")
        assert (len(envelopes), Isolation.objects.count(), Outgoing.objects.count()) == (7, 0, 0)
        mass.write(tmp_path / "orders", envelopes)
        assert mass.send(ANNE, mass.read(tmp_path / "orders")) == 7
        assert (Isolation.objects.count(), Outgoing.objects.count()) == (7, 7)
        document = DesiredState.objects.get(box=box)
        assert document.payload["mass"] == {"boxes": sorted(one.pk for one in boxes)}

    def test_one_box_that_is_refused_holds_up_no_other(
        self, signer: LocalSigner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boxes = [Box.objects.create(id=box_id(f"m{n}"), state=Box.State.ACTIVE) for n in range(6)]
        envelopes = mass.prepare(ANNE, boxes, 3, later(hours=2), "attaque")

        def sign(_self: LocalSigner, envelope: bytes, _operator: str) -> bytes:
            if envelope == envelopes[2]:
                raise RefusedError("not this one", "rule")
            return envelope

        monkeypatch.setattr(LocalSigner, "sign_desired_envelope", sign)
        with pytest.raises(StateError, match=boxes[2].pk):
            mass.send(ANNE, envelopes)
        assert Isolation.objects.count() == Outgoing.objects.count() == 5


class TestCommands:
    def test_it_is_signed_and_sent_with_its_number(self, box: Box, signer: LocalSigner) -> None:
        row = orders.command(ANNE, box, "restart", service="filter")
        message = Outgoing.objects.get()
        assert (message.correlation, message.retain) == (row.pk, False)
        assert message.response_topic == f"vigie/v1/{box.pk}/up/ack"
        assert message.expiry_s == 1800
        assert Command.objects.get().args == {"service": "filter"}

    @pytest.mark.parametrize(
        ("op", "service"), [("reboot", ""), ("restart", ""), ("restart", "sshd"), ("self-test", "filter")]
    )
    def test_nonsense(self, box: Box, op: str, service: str) -> None:
        with pytest.raises(UsageError):
            orders.command(ANNE, box, op, service=service)


class TestFleet:
    def test_a_box_is_found_by_any_of_its_names(self, box: Box) -> None:
        for text in (box.pk, "S-1", CLAIM, CLAIM.lower().replace("-", " ")):
            assert fleet.find(text) == box
        with pytest.raises(UsageError):
            fleet.find("vg-nobody")

    def test_assigned_before_it_is_registered(self, commune: Commune, services: object) -> None:
        from vigie_department.ingest import registry

        other = claim_id(b"\x02" * 8)
        assert fleet.assign(ANNE, other.lower(), "59350") is None
        event = {
            "id": 1,
            "at": 1_790_000_000,
            "kind": "registered",
            "serial": "S-9",
            "box": box_id("nine"),
            "detail": {"claim_id": other, "model": "cm4", "lot": "L1"},
        }
        registry.pull(lambda after, limit: [event])
        found = Box.objects.get(serial="S-9")
        assert (found.commune, found.model, found.lot) == (commune, "cm4", "L1")
        assert not Claim.objects.exists()

    def test_assigned_after_it_is_plugged(self, box: Box, signer: LocalSigner) -> None:
        box.commune = None
        box.save()
        assert fleet.assign(ANNE, CLAIM, "59350") == box
        assert signer.signed[-1].settings.hours

    def test_a_mistyped_label_is_said(self, commune: Commune) -> None:
        with pytest.raises(UsageError, match="recopié"):
            fleet.assign(ANNE, CLAIM[:-1] + ("0" if CLAIM[-1] != "0" else "1"), "59350")
        with pytest.raises(UsageError, match="INSEE"):
            fleet.assign(ANNE, CLAIM, "00000")

    def test_a_commune_has_one_box_and_spares(self, box: Box, commune: Commune, services: object) -> None:
        second = Box.objects.create(id=box_id("two"), state=Box.State.ACTIVE, claim_id=claim_id(b"\x03" * 8))
        with pytest.raises(StateError, match="box replace"):
            fleet.bind(ANNE, second, commune)
        second.spare = True
        fleet.bind(ANNE, second, commune)

    def test_revoked(self, box: Box, authority: LocalAuthority) -> None:
        fleet.revoke(ANNE, box, "volé")
        assert Box.objects.get().state == Box.State.REVOKED
        assert authority.asked == [("revoke", box.pk, "volé")]
        assert bytes(Outgoing.objects.get().payload) == b""
        with pytest.raises(StateError):
            fleet.revoke(ANNE, box, "volé")

    def test_nothing_changes_when_the_authority_is_away(self, box: Box, authority: LocalAuthority) -> None:
        authority.away = True
        with pytest.raises(UnavailableError):
            fleet.revoke(ANNE, box, "volé")
        assert Box.objects.get().state == Box.State.ACTIVE
        assert actions() == []

    def test_released(self, box: Box, authority: LocalAuthority) -> None:
        with pytest.raises(StateError):
            fleet.release(ANNE, box, "vu")
        box.state = Box.State.CONFLICT
        box.save()
        with pytest.raises(UsageError):
            fleet.release(ANNE, box, " ")
        fleet.release(ANNE, box, "vu à la mairie")
        assert authority.asked == [("release", "S-1", "vu à la mairie")]

    def test_replaced(self, box: Box, signer: LocalSigner, authority: LocalAuthority, commune: Commune) -> None:
        new = Box.objects.create(id=box_id("new"), serial="S-2", state=Box.State.ACTIVE)
        allow(orders.Scope(box=box), "own.example")
        allow(orders.Scope(commune=commune), "commune.example")
        orders.add_exception(
            ANNE, orders.Scope(box=box), "allow", "pc.example", timezone.now() + later(days=1), "n", device=DEVICE
        )
        orders.quarantine(ANNE, box, DEVICE, later(hours=1), "")
        fleet.replace(ANNE, box, new, "panne")
        assert [one.target for one in signer.signed[-1].exceptions] == ["commune.example", "own.example"]
        assert signer.signed[-1].box == new.pk
        assert (new.commune, new.location) == (commune, "baie 1")
        old = Box.objects.get(pk=box.pk)
        assert (old.state, old.commune, old.replaced_by) == (Box.State.REPLACED, None, new)
        assert not Quarantine.objects.filter(lifted=None).exists()
        assert authority.asked[0][:2] == ("revoke", box.pk)
        with pytest.raises(StateError):
            fleet.replace(ANNE, old, new, "encore")

    def test_not_replaced_by_another_communes_box(self, box: Box) -> None:
        other = Commune.objects.create(insee="59009", name="Villeneuve-d'Ascq")
        new = Box.objects.create(id=box_id("new"), state=Box.State.ACTIVE, commune=other)
        with pytest.raises(StateError):
            fleet.replace(ANNE, box, new, "panne")


class TestImport:
    def test_all_or_nothing(self, services: object) -> None:
        good = "insee;nom;horaires\n59350;Lille;lu-ve 9h-17h\n1001;L'Abergement-Clémenciat;\n".encode("utf-8-sig")
        done = communes.load(ANNE, good)
        assert done.added == ["59350", "01001"]
        assert communes.load(ANNE, good).same == 2
        bad = b"insee,nom\n59350,Lille-sur-Deule\nxx,Nulle part\n2A004,Ajaccio\n"
        with pytest.raises(UsageError, match="ligne 3"):
            communes.load(ANNE, bad)
        assert Commune.objects.get(insee="59350").name == "Lille"

    def test_latin_1(self, services: object) -> None:
        communes.load(ANNE, "insee;nom\n59350;Hénin\n".encode("latin-1"))
        assert Commune.objects.get().name == "Hénin"

    @pytest.mark.parametrize("text", [b"", b"a;b\n", b"insee\n1\n", b"insee;nom;x\n", b"insee;nom\n59350;Lille;z\n"])
    def test_a_file_of_another_shape_is_refused(self, text: bytes) -> None:
        with pytest.raises(UsageError):
            communes.load(ANNE, text)


@pytest.mark.parametrize(("text", "seconds"), [("30min", 1800), ("4h", 14400), ("90j", 7776000), ("2 d", 172800)])
def test_durations(text: str, seconds: int) -> None:
    assert orders.duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "0h", "-1h", "4 heures", "99999h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        orders.duration(text)


def test_renewal_goes_on_past_a_box_that_is_refused(signer: LocalSigner) -> None:
    first, second = (Box.objects.create(id=name, state=Box.State.ACTIVE) for name in sorted((box_id("a"), box_id("b"))))
    # put there by hand: the service would have said no
    NeverBlock.objects.create(box=first, target="0.0.0.0/0", note="", created=timezone.now(), created_by="anne")
    with pytest.raises(RefusedError):
        desired.issue(first, ANNE, "")
    assert desired.renew(ANNE) == 1
    assert [one.box for one in signer.signed] == [second.pk]
