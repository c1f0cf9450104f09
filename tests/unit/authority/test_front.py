"""The protocol, request by request, over the real store and keys, without sockets."""

from __future__ import annotations

import statistics
import time
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509

from tests.support.enrolbox import SimBox, csr_of, new_key
from tests.unit.authority.conftest import Desk
from vigie.contract.enrolment import (
    CHALLENGE_LIFE_S,
    DecommissionRequest,
    EnrolReply,
    EnrolRequest,
    JoinState,
    Purpose,
    RenewRequest,
)
from vigie.contract.signed import Signed
from vigie_provisioning.authority.front import Call
from vigie_provisioning.authority.service import Publish

DAY = 86_400


def certificate(answer: Any) -> x509.Certificate:
    return x509.load_pem_x509_certificate(EnrolReply.from_bytes(answer.body).chain[0].encode())


def test_from_unknown_to_active(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    assert desk.state(box) == "expected"
    answer = desk.enrol(box)
    assert answer.status == 200, answer
    reply = box.take_reply(answer.body)
    assert (reply.mqtt_host, reply.mqtt_ports) == ("mqtt.vigie.lab", (8883, 443))
    made = certificate(answer)
    assert made.subject.rfc4514_string() == f"CN={box.box}"
    assert desk.state(box) == "pending"
    assert desk.code(desk.post("confirm", box.ask_confirm(), box)) == (200, "")
    assert desk.state(box) == "active"
    assert [event["kind"] for event in desk.events()[4:]] == ["enrolled", "confirmed"]
    detail = desk.events("enrolled")[0]["detail"]
    assert detail["cert_serial"] == f"{made.serial_number:x}"
    assert detail["not_after"] - desk.clock[0] == 90 * DAY


def test_the_challenge_gives_the_time(desk: Desk, boxes: list[SimBox]) -> None:
    challenge = boxes[0].take_challenge(desk.post("challenge", boxes[0].ask_challenge()).body)
    assert (challenge.time, challenge.exp) == (int(desk.clock[0]), CHALLENGE_LIFE_S)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 9000, b'{"v":2,"serial":"VG-1","model":"cm4","dev_nonce":"00"}', b"\xff", b"{" + b" " * 40_000],
)
@pytest.mark.parametrize("path", ["challenge", "enrol", "confirm", "renew", "decommission"])
def test_malformed(desk: Desk, path: str, body: bytes) -> None:
    assert desk.code(desk.post(path, body)) == (400, "malformed")


# -- refusals say nothing


def test_refusals_have_the_same_bytes(desk: Desk, boxes: list[SimBox]) -> None:
    """Unknown, blocked, revoked, decommissioned, wrong key, wrong server, with and without join state."""
    known, blocked, revoked, gone = boxes
    for box in (blocked, revoked, gone):
        desk.join(box)
    desk.admin("block", serial=blocked.serial, operator="bob")
    desk.admin("revoke", serial=revoked.serial, operator="bob", reason="stolen")
    assert desk.post("decommission", gone.ask_decommission(), gone).status == 200
    unknown = SimBox("VG-99999", desk.room.spki())
    wrong_server = SimBox(known.serial, b"another key", known.identity)
    answers = {
        "unknown": desk.enrol(unknown),
        "unknown with a stolen join state": desk.enrol(SimBox("VG-88888", unknown.spki, join_state=blocked.join_state)),
        "wrong identity key": desk.enrol(known.copy(), key=new_key()),
        "wrong server": desk.enrol(wrong_server),
        "blocked": desk.enrol(blocked),
        "revoked": desk.enrol(revoked),
        "decommissioned": desk.enrol(gone),
        "confirm without certificate": desk.post("confirm", blocked.ask_confirm()),
        "renew while blocked": desk.post("renew", blocked.ask_renew(), blocked),
    }
    shapes = {(answer.status, answer.body, answer.retry_after_s) for answer in answers.values()}
    assert len(shapes) == 1, answers
    assert desk.code(answers["unknown"]) == (403, "refused")


def test_challenges_do_not_tell_who_is_known(desk: Desk, boxes: list[SimBox]) -> None:
    """Same length and names for known and unknown; nothing is stored for either."""
    before = desk.reader.execute("SELECT count(*) FROM used").fetchone()[0]
    known = desk.post("challenge", boxes[0].ask_challenge())
    unknown = desk.post("challenge", SimBox("VG-99999", b"").ask_challenge())
    assert known.status == unknown.status == 200
    # an ECDSA signature in DER has 70 to 72 bytes, whoever asks
    assert abs(len(known.body) - len(unknown.body)) <= 8
    assert desk.reader.execute("SELECT count(*) FROM used").fetchone()[0] == before


def test_timing_of_refusals_is_printed(desk: Desk, boxes: list[SimBox]) -> None:
    """For people: medians in ms. They leave at multiples of 50 ms; without a wait of its own nothing is asserted."""
    took: dict[str, list[float]] = {"unknown": [], "wrong key": []}
    for _ in range(5):
        for name, box in (("unknown", SimBox("VG-99999", desk.room.spki())), ("wrong key", boxes[0].copy())):
            box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
            body = box.ask_enrol(key=new_key())
            start = time.perf_counter()
            answer = desk.post("enrol", body)
            took[name].append(time.perf_counter() - start)
            assert answer.status == 403
    print({name: round(statistics.median(values) * 1000, 2) for name, values in took.items()})


# -- lost replies, replays, copies


def test_lost_replies_at_every_step(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
    body = box.ask_enrol()
    first, again = desk.post("enrol", body), desk.post("enrol", body)
    assert first.body == again.body, "the same challenge and key: the same bytes"
    other = desk.enrol(box)
    assert other.body == first.body, "another challenge, the same key and join state: the same certificate"
    box.take_reply(first.body)
    for _ in range(2):
        assert desk.code(desk.post("confirm", box.ask_confirm(), box)) == (200, "")
    ask = box.ask_renew()
    renewed, again = desk.post("renew", ask, box), desk.post("renew", ask, box)
    assert renewed.status == 200
    assert renewed.body == again.body
    # the certificate ends before the reply arrives: by the identity key, with the same pending key
    other = desk.enrol(box)
    assert other.body == renewed.body
    box.take_reply(renewed.body)
    assert desk.code(desk.post("confirm", box.ask_confirm(), box)) == (200, "")
    for _ in range(2):
        assert desk.code(desk.post("decommission", box.ask_decommission(), box)) == (200, "")
    kinds = [event["kind"] for event in desk.events()[4:]]
    assert kinds == ["enrolled", "confirmed", "renewed", "confirmed", "decommissioned"], "each happened once"


def test_a_challenge_serves_one_key(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
    assert desk.post("enrol", box.ask_enrol()).status == 200
    assert desk.code(desk.post("enrol", box.ask_enrol(fresh=True))) == (400, "challenge")


def test_an_old_request_replayed_does_no_harm(desk: Desk, boxes: list[SimBox]) -> None:
    """Somebody who holds the web server repeats what the box sent: nothing is issued, nobody is taken for a clone."""
    box = boxes[0]
    box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
    old = box.ask_enrol()
    box.take_reply(desk.post("enrol", old).body)
    assert desk.post("confirm", box.ask_confirm(), box).status == 200
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    assert desk.post("confirm", box.ask_confirm(), box).status == 200
    assert desk.code(desk.post("enrol", old)) == (400, "challenge")
    assert desk.state(box) == "active"
    desk.clock[0] += CHALLENGE_LIFE_S + 1
    assert desk.code(desk.post("enrol", old)) == (400, "challenge")
    assert desk.events("clone", "conflict") == []


def test_somebody_elses_challenge(desk: Desk, boxes: list[SimBox]) -> None:
    one, two = boxes[:2]
    one.take_challenge(desk.post("challenge", one.ask_challenge()).body)
    two.dev_nonce, two.challenge = one.dev_nonce, one.challenge
    assert desk.code(desk.post("enrol", two.ask_enrol())) == (403, "refused")


def test_a_pair_of_clones(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    clone = box.copy()
    desk.clock[0] += 60 * DAY
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    desk.published.clear()
    assert desk.code(desk.enrol(clone)) == (409, "clone")
    assert desk.published == [Publish.NOW]
    assert desk.state(box) == "quarantined"
    assert desk.code(desk.post("confirm", box.ask_confirm(), box)) == (403, "refused")
    assert desk.code(desk.enrol(box)) == (409, "clone"), "the real one learns it too"
    [event] = desk.events("clone")
    assert (event["serial"], event["detail"]["shown"], event["detail"]["seq"]) == (box.serial, 1, 2)
    assert len(event["detail"]["cert_serials"]) == 2
    desk.admin("release", serial=box.serial, operator="bob", note="the copy was found")
    desk.join(box)
    assert desk.state(box) == "active"
    assert desk.code(desk.enrol(clone)) == (409, "clone"), "and again, when the copy comes back"


def test_without_join_state_an_operator_decides(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    thief = SimBox(box.serial, box.spki, box.identity)
    for _ in range(3):
        assert desk.code(desk.enrol(thief)) == (409, "conflict")
    [event] = desk.events("conflict")
    assert event["serial"] == box.serial
    assert desk.state(box) == "active", "the real one goes on"
    desk.join(box)
    desk.clock[0] += 2 * DAY
    assert desk.code(desk.enrol(thief)) == (409, "conflict")
    assert len(desk.events("conflict")) == 2, "one line a day"
    desk.admin("release", box=box.box, operator="bob", note="partition lost")
    desk.join(thief)
    assert desk.code(desk.enrol(box)) == (409, "clone"), "a release counts once; whoever is second is found"


@pytest.mark.parametrize("spoil", ["signature", "of another box", "signed by another authority"])
def test_join_states_that_are_not_ours(desk: Desk, boxes: list[SimBox], spoil: str) -> None:
    box, other = boxes[:2]
    desk.join(box)
    desk.join(other)
    assert box.join_state is not None
    if spoil == "of another box":
        box.join_state = other.join_state
    elif spoil == "signature":
        box.join_state = Signed(box.join_state.payload.replace(b'"seq":1', b'"seq":9'), box.join_state.signature)
    else:
        box.join_state = JoinState(box.serial, box.box, 1, 0).sign(new_key())
    assert desk.code(desk.enrol(box)) == (409, "conflict")


def test_a_restored_store_catches_up(desk: Desk, boxes: list[SimBox]) -> None:
    """The box shows a join state that the restored store does not know yet: accepted, and copies are still found."""
    box = boxes[0]
    desk.join(box)
    clone = box.copy()
    desk.clock[0] += 1
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    desk.run(desk.writer.run(lambda db: db.execute("UPDATE boxes SET seq = 0, shown = 0, key = x''")))
    desk.run(desk.writer.run(lambda db: db.execute("DELETE FROM certificates WHERE serial IS NOT NULL")))
    assert desk.code(desk.post("confirm", box.ask_confirm(), box)) == (403, "refused")
    desk.join(box)
    assert desk.events("enrolled")[-1]["detail"]["rule"] == "restored"
    assert desk.code(desk.enrol(clone)) == (409, "clone")


# -- certificates


def test_renewal_supersedes_at_confirm(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    old = box.copy()
    desk.clock[0] += 60 * DAY
    box.take_reply(desk.post("renew", box.ask_renew(), box).body)
    states = [c["state"] for c in desk.admin("show", serial=box.serial)["certificates"]]
    assert states == ["pending", "active"]
    assert desk.post("confirm", box.ask_confirm(), box).status == 200
    certificates = desk.admin("show", serial=box.serial)["certificates"]
    assert [(c["state"], c["reason"]) for c in certificates] == [("active", None), ("revoked", "superseded")]
    assert desk.code(desk.post("renew", old.ask_renew(), old)) == (403, "refused")


def test_an_expired_certificate_enrols_again(desk: Desk, boxes: list[SimBox]) -> None:
    """Months without power; no human, whether nginx lets the expired certificate through or not."""
    box = boxes[0]
    desk.join(box)
    desk.clock[0] += 200 * DAY
    assert desk.state(box) == "lapsed"
    assert desk.code(desk.post("renew", box.ask_renew(), box)) == (403, "refused")
    desk.join(box)
    assert desk.events("enrolled")[-1]["detail"]["seq"] == 2


def test_the_web_server_cannot_speak_for_a_box(desk: Desk, boxes: list[SimBox]) -> None:
    """nginx vouches for a certificate, but the box's key did not sign."""
    box = boxes[0]
    desk.join(box)
    assert box.credentials is not None
    assert box.join_state is not None
    thief = new_key()
    csr = csr_of(thief)
    forged = box.copy()
    assert forged.credentials is not None
    forged.credentials = type(forged.credentials)(thief, box.credentials.chain)
    att = forged.credentials.possession(Purpose.RENEW, csr, box.join_state)
    body = RenewRequest(csr, box.join_state, att).to_bytes()
    assert desk.code(desk.post("renew", body, box)) == (403, "refused")
    assert desk.code(desk.post("decommission", forged.ask_decommission(), box)) == (403, "refused")
    assert desk.code(desk.post("confirm", forged.ask_confirm(), box)) == (403, "refused")


@pytest.mark.parametrize("verify", ["NONE", "FAILED:certificate has expired", "", "success"])
def test_only_verified_certificates_count(desk: Desk, boxes: list[SimBox], verify: str) -> None:
    box = boxes[0]
    desk.join(box)
    assert box.credentials is not None
    call = Call(box.ask_confirm(), "", verify, quote(box.credentials.chain[0]))
    assert desk.code(desk.run(desk.front.answer(desk.front.confirm, call))) == (403, "refused")


@pytest.mark.parametrize("pem", ["", "%", "nonsense", "-----BEGIN%20CERTIFICATE-----", "x" * 20_000])
def test_odd_client_certificates(desk: Desk, boxes: list[SimBox], pem: str) -> None:
    desk.join(boxes[0])
    call = Call(boxes[0].ask_confirm(), "", "SUCCESS", pem)
    assert desk.code(desk.run(desk.front.answer(desk.front.confirm, call))) == (403, "refused")


def test_a_key_certified_for_another_box(desk: Desk, boxes: list[SimBox]) -> None:
    one, two = boxes[:2]
    desk.join(one)
    assert one.credentials is not None
    two.pending = one.credentials.key
    assert desk.code(desk.enrol(two)) == (400, "malformed")
    two.pending = two.identity
    assert desk.code(desk.enrol(two)) == (400, "malformed"), "the identity key is not for daily use"


def test_decommission_by_identity(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    desk.join(box)
    box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
    body = box.ask_farewell()
    assert desk.code(desk.post("decommission", body)) == (200, "")
    assert desk.state(box) == "decommissioned"
    other = boxes[1]
    other.take_challenge(desk.post("challenge", other.ask_challenge()).body)
    att = box.identity
    other_body = SimBox(other.serial, other.spki, att, challenge=other.challenge, dev_nonce=other.dev_nonce)
    assert desk.code(desk.post("decommission", other_body.ask_farewell())) == (403, "refused")


def test_an_enrolment_signature_does_not_decommission(desk: Desk, boxes: list[SimBox]) -> None:
    box = boxes[0]
    box.take_challenge(desk.post("challenge", box.ask_challenge()).body)
    ask = EnrolRequest.from_bytes(box.ask_enrol())
    body = DecommissionRequest(ask.att, ask.sid).to_bytes()
    assert desk.code(desk.post("decommission", body)) == (403, "refused")


# -- floods


@pytest.mark.slow
def test_a_flood_of_unknown_serials_is_bounded(desk: Desk, boxes: list[SimBox]) -> None:
    size = desk.room.config.store.stat().st_size
    for i in range(1200):
        desk.attempts.note(f"XX-{i:05d}", "unknown", "192.0.2.9")
    assert len(desk.attempts) == 256
    for round_ in range(6):
        for i in range(256):
            desk.attempts.note(f"YY-{round_}-{i:05d}", "unknown", "192.0.2.9")
        assert len(desk.admin("unknown", limit=1000)) <= 1000
    assert len(desk.events("unknown")) <= 61
    assert desk.room.config.store.stat().st_size - size < 2_000_000
    desk.join(boxes[0])


def test_limits_per_source_and_serial(desk: Desk, boxes: list[SimBox]) -> None:
    desk.front._sources.burst = 3.0
    asks = [desk.post("challenge", boxes[0].ask_challenge(), source="198.51.100.7") for _ in range(5)]
    assert [answer.status for answer in asks] == [200, 200, 200, 429, 429]
    assert asks[-1].retry_after_s >= 1
    assert desk.post("challenge", boxes[0].ask_challenge(), source="198.51.100.8").status == 200
    desk.front._sources.burst = 1000.0
    desk.front._serials.burst = 2.0
    answers = [desk.code(desk.enrol(boxes[0])) for _ in range(4)]
    assert answers == [(200, ""), (200, ""), (429, "busy"), (429, "busy")]
    assert desk.enrol(boxes[1]).status == 200, "others are not concerned"
    thief = SimBox(boxes[2].serial, boxes[2].spki)
    for _ in range(5):
        assert desk.enrol(thief).status == 403
    assert desk.enrol(boxes[2]).status == 200, "who proves nothing uses up nothing of the box's"


@pytest.mark.slow
def test_a_full_disk_is_not_an_answer_to_forget(desk: Desk, boxes: list[SimBox]) -> None:
    """What cannot be written is not granted; when there is space again the box is served."""
    pages = desk.run(desk.writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0]))
    desk.run(desk.writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone()[0]))
    statuses = set()
    for box in boxes * 40:
        desk.front._serials.burst = 1000.0
        box.pending = None
        statuses.add(desk.enrol(box).status)
        box.join_state = None
    assert 503 in statuses
    issued = desk.reader.execute("SELECT count(*) FROM certificates WHERE serial IS NOT NULL").fetchone()[0]
    assert issued <= 4, "no certificate without its record"
    desk.run(desk.writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone()[0]))
    box = SimBox(boxes[0].serial, boxes[0].spki, boxes[0].identity)
    desk.admin("release", serial=box.serial, operator="bob")
    desk.join(box)
