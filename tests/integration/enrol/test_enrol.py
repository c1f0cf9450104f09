"""A box and a real department: nginx, the authority, and a line that fails at each step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from lab.department import Department
from tests.integration.enrol.boxes import Box, Factory, Scissors
from vigie.enrol import credentials, identity, reset
from vigie.enrol.codes import Code
from vigie.enrol.status import State
from vigie_provisioning.authority import ca as authority_ca

pytestmark = pytest.mark.integration


def _certificates(box: Box) -> list[dict[str, object]]:
    found = box.record()["certificates"]
    assert isinstance(found, list)
    return found


def _seq(box: Box) -> int:
    state = identity.join_state(box.config.paths.identity)
    assert state is not None
    return int(json.loads(state.payload)["seq"])


def test_a_box_is_a_member_without_a_person(box: Box) -> None:
    status = box.until(Code.MEMBER)
    assert status.box_id == box.box_id and status.serial == box.serial and status.state is State.ENROLLED
    found = credentials.load(box.config.paths)
    own = x509.load_pem_x509_certificates(found.cert_chain_path.read_bytes())[0]
    assert own.subject.rfc4514_string() == f"CN={box.box_id}"
    assert status.not_after == own.not_valid_after_utc.timestamp()
    assert box.events() == ["registered", "enrolled", "confirmed"] and box.record()["state"] == "active"
    assert box.service.clock.word() == "signed"


@pytest.mark.parametrize("what", ["request", "reply"])
@pytest.mark.parametrize("step", [0, 1, 2], ids=["challenge", "enrol", "confirm"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_loss_at_each_step_of_enrolment_costs_no_second_certificate(
    box: Box, scissors: Scissors, step: int, what: str, times: int
) -> None:
    scissors.lose = [""] * step + [what] * times
    box.through(scissors.port)
    box.until(Code.MEMBER)
    assert scissors.lost == [what] * times, scissors.lost
    assert len(_certificates(box)) == 1 and box.events() == ["registered", "enrolled", "confirmed"]


@pytest.mark.parametrize("what", ["request", "reply"])
@pytest.mark.parametrize("step", [0, 1], ids=["renew", "confirm"])
def test_a_loss_at_each_step_of_a_renewal_costs_no_second_certificate(
    box: Box, scissors: Scissors, step: int, what: str
) -> None:
    box.until(Code.MEMBER)
    before = credentials.load(box.config.paths)
    box.through(scissors.port)
    box.until(Code.MEMBER)  # loads; the time of this boot is known already
    scissors.lose = [""] * step + [what] * 3
    box.renew()
    box.run(lambda: credentials.load(box.config.paths).generation != before.generation)
    assert scissors.lost == [what] * 3
    assert box.events() == ["registered", "enrolled", "confirmed", "renewed", "confirmed"], box.events()
    assert _seq(box) == 2 and box.record()["seq"] == 2


def test_the_old_set_is_in_force_until_the_new_one_is_confirmed(box: Box, scissors: Scissors) -> None:
    box.until(Code.MEMBER)
    before = credentials.load(box.config.paths)
    box.through(scissors.port)
    box.until(Code.MEMBER)
    scissors.lose = ["", *["request"] * 4]
    box.renew()
    box.run(lambda: len(scissors.lost) >= 3)
    assert credentials.load(box.config.paths) == before and before.key_path.exists()
    states = {c["state"] for c in _certificates(box)}
    assert states == {"active", "pending"}, _certificates(box)
    box.restart()  # power cut between grant and confirmation
    box.run(lambda: credentials.load(box.config.paths).generation != before.generation)
    assert [c["state"] for c in _certificates(box)].count("active") == 1
    assert before.key_path.exists()  # a session that opens with it just now finishes


def test_of_a_clone_pair_both_are_quarantined(box: Box, folder: Path) -> None:
    box.until(Code.MEMBER)
    twin = box.copy(folder / "twin")
    twin.until(Code.MEMBER)  # with the same certificate
    twin.renew()
    twin.run(lambda: _seq(twin) == 2)
    twin.until(Code.MEMBER)
    box.renew()
    status = box.until(Code.CLONE)
    assert status.state is State.CONFLICT
    twin.renew()
    twin.run(lambda: twin.service.machine.code in (Code.CLONE, Code.BLOCKED))
    assert box.record()["state"] == "quarantined" and "clone" in box.events()


def test_a_copy_without_the_join_state_is_a_conflict_that_an_operator_releases(box: Box, folder: Path) -> None:
    box.until(Code.MEMBER)
    thief = box.copy(folder / "thief")
    (thief.config.paths.identity / identity.JOIN_STATE).unlink()
    reset.configuration(thief.config)
    thief.until(Code.CONFLICT)
    assert box.record()["state"] == "active"  # the true one goes on
    box.department.admin.release(box.serial, "op", "mémoire remplacée")
    thief.until(Code.MEMBER)


def test_unknown_then_registered(factory: Factory) -> None:
    box = factory.box(known=False)
    status = box.until(Code.UNKNOWN)
    assert status.state is State.REFUSED and status.next_at > 0
    factory.register(box)
    box.until(Code.MEMBER)


def test_revoked_then_released_comes_back_by_the_broker_s_refusal(box: Box) -> None:
    box.until(Code.MEMBER)
    box.department.admin.revoke(box.serial, "op", "volé")
    box.doubt()
    status = box.until(Code.BLOCKED)
    assert status.state is State.REFUSED
    box.department.admin.unblock(box.serial, "op", "retrouvé")
    before = credentials.load(box.config.paths)
    box.until(Code.MEMBER)
    assert credentials.load(box.config.paths).generation != before.generation
    assert box.record()["state"] == "active"


def test_another_department_is_not_believed(box: Box, folder: Path) -> None:
    from vigie_provisioning.authority import profiles

    root = folder / "trust"
    root.mkdir()
    key = profiles.new_key()
    other = profiles.root(key, profiles.common_name("another root"), profiles.now())
    (root / "roots.pem").write_bytes(authority_ca.pem([other]))
    from dataclasses import replace

    box.config = replace(box.config, paths=replace(box.config.paths, trust=root))
    box.restart()
    box.until(Code.SERVER_KEY)
    assert box.record()["seq"] == 0 and box.service.clock.word() != "signed"


def test_a_reset_of_the_configuration_keeps_identity_and_join_state(box: Box) -> None:
    box.until(Code.MEMBER)
    reset.ask(box.config.paths, reset.What.CONFIGURATION)
    box.run(lambda: reset.asked(box.config.paths) is None)
    assert box.service.machine.state is State.LOADING
    box.until(Code.MEMBER)
    assert _seq(box) == 2 and "conflict" not in box.events(), box.events()


def test_a_decommissioned_box_has_told_and_holds_nothing(box: Box, scissors: Scissors) -> None:
    box.until(Code.MEMBER)
    box.through(scissors.port)
    box.until(Code.MEMBER)
    scissors.lose = ["", "reply"]
    reset.ask(box.config.paths, reset.What.DECOMMISSION)
    status = box.until(Code.DECOMMISSIONED)
    assert scissors.lost == ["reply"] and status.box_id
    assert box.record()["state"] == "decommissioned" and box.events()[-1] == "decommissioned"
    left = [p.name for p in box.config.paths.identity.iterdir()]
    assert sorted(left) == ["box.json", "decommission.json"]
    with pytest.raises(credentials.NotEnrolled):
        credentials.load(box.config.paths)
    box.run(lambda: reset.asked(box.config.paths) is None)
    box.restart()
    box.until(Code.DECOMMISSIONED)


def test_an_authority_that_is_down_is_waited_for(factory: Factory, department: Department) -> None:
    box = factory.box()
    department.stop("authority")
    try:
        status = box.until(Code.AUTHORITY_DOWN)
        assert status.state is State.WAITING
    finally:
        department.start("authority")
    box.until(Code.MEMBER)


def test_the_certification_authorities_change_below_the_same_root(factory: Factory, department: Department) -> None:
    box, late = factory.box(), factory.box()
    box.until(Code.MEMBER)
    places = authority_ca.Places(
        department.config.paths.authority, department.config.paths.pki, department.config.paths.trust
    )
    from lab.department import KEYHOLDERS

    for role in ("issuing", "challenge"):
        authority_ca.rotate(places, department.config.paths.offline, role, passphrase=KEYHOLDERS[0])
    department.stop("authority")
    department.stop("web")
    department.start("authority", "web")
    before = credentials.load(box.config.paths)
    box.renew()
    box.run(lambda: credentials.load(box.config.paths).generation != before.generation)
    late.until(Code.MEMBER)
    for one in (box, late):
        chain = x509.load_pem_x509_certificates(credentials.load(one.config.paths).cert_chain_path.read_bytes())
        assert "issuing 2" in chain[1].subject.rfc4514_string(), chain
