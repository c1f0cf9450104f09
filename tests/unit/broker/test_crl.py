"""Revocation lists are passed on whole, signed, complete and never older; and what is decided about them."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.certificates import Certificates, Client
from vigie_department import config as configuration
from vigie_department.broker import crl
from vigie_department.broker.decide import WARN_S, Decision, InForce, Offered, decide
from vigie_department.broker.errors import BrokerError
from vigie_provisioning.authority import ca

NOBODY: frozenset[str] = frozenset()
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return _department(tmp_path_factory.mktemp("d"))


def _department(root: Path) -> Certificates:
    file = configuration.file_of(root)
    file.parent.mkdir(parents=True)
    file.write_text(configuration.render("vigie.lab", root=root))
    return Certificates(configuration.load(file), root / "clients")


def issuers(made: Certificates, now: float = 0.0) -> crl.Issuers:
    return crl.parse_issuers((made.config.paths.pki / "clients.pem").read_bytes(), now)


def bundle(
    made: Certificates, number: int, *revoked: Client, life: timedelta = 30 * DAY, since: timedelta = -DAY
) -> crl.Bundle:
    return crl.parse(made.crl(revoked, number, life=life, since=since), issuers(made))


def test_a_list_says_what_it_holds(made: Certificates) -> None:
    found = bundle(made, 7, made.box(), made.box())
    assert (found.revoked, list(found.numbers.values())) == (2, [7])
    assert found.expires == pytest.approx(time.time() + 30 * 86400, abs=120)


def test_roots_are_no_issuers(made: Certificates) -> None:
    (one,) = issuers(made)
    assert "issuing" in one.subject.rfc4514_string()


def test_list_of_another_department_is_refused(made: Certificates, tmp_path: Path) -> None:
    other = _department(tmp_path / "other")
    with pytest.raises(BrokerError, match="not signed by"):
        crl.parse(other.crl((), 1), issuers(made))


def as_pem(der: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


def test_damaged_lists_are_refused(made: Certificates) -> None:
    good = made.crl((made.box(),), 1)
    listed = x509.load_pem_x509_crl(good)
    der, signed = listed.public_bytes(serialization.Encoding.DER), listed.tbs_certlist_bytes
    first = der.index(signed)
    places = [*range(first, first + len(signed)), len(der) - 1]  # and the last byte of the signature
    broken = [b"", b"garbage", good[:-30], good + good,
              good + b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
              *(as_pem(der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]) for at in places)]  # fmt: skip
    assert crl.parse(good, issuers(made))
    for data in broken:
        with pytest.raises(BrokerError):
            crl.parse(data, issuers(made))


def test_every_issuing_authority_must_have_its_list(tmp_path: Path) -> None:
    """Else every certificate it issued would be refused by mosquitto."""
    made = _department(tmp_path / "rotated")
    paths = made.config.paths
    ca.rotate(ca.Places(paths.authority, paths.pki, paths.trust), paths.offline, "issuing")
    assert len(issuers(made)) == 2
    with pytest.raises(BrokerError, match=r"none of .*issuing 2.*would be refused"):
        crl.parse(made.crl((), 1), issuers(made))


def test_first_list_is_taken(made: Certificates) -> None:
    new = bundle(made, 1)
    decision = decide(InForce(None, NOBODY), Offered(new, NOBODY), time.time())
    assert (decision.crl, decision.acl, decision.cut, decision.problems) == (new.pem, None, NOBODY, ())


def test_same_list_again_changes_nothing(made: Certificates) -> None:
    one = bundle(made, 1)
    decision = decide(
        InForce(one, frozenset({"vg-aaaaaaaaaaaaaaaa"})), Offered(one, frozenset({"vg-aaaaaaaaaaaaaaaa"})), time.time()
    )
    assert not decision.reload
    assert decision.cut == NOBODY


def codes(decision: Decision) -> list[str]:
    return [problem.code for problem in decision.problems]


def test_older_future_and_expired_lists_are_not_taken(made: Certificates) -> None:
    now = time.time()
    in_force = bundle(made, 5)
    for offered, code in (
        (bundle(made, 4), "crl-older"),
        (bundle(made, 6, since=timedelta(hours=1)), "crl-unusable"),
        (bundle(made, 6, life=-timedelta(hours=1)), "crl-unusable"),
    ):
        decision = decide(InForce(in_force, NOBODY), Offered(offered, NOBODY), now)
        assert (decision.crl, decision.in_force.crl, codes(decision)) == (None, in_force, [code])


def test_end_of_a_list_is_announced_and_then_told(made: Certificates) -> None:
    one = bundle(made, 5)
    for moment, expected in ((one.expires - WARN_S - 1, []), (one.expires - WARN_S + 1, ["crl-ends-soon"]),
                             (one.expires, ["crl-expired"])):  # fmt: skip
        assert codes(decide(InForce(one, NOBODY), Offered(one, NOBODY), moment)) == expected


def test_renewed_list_replaces_one_that_is_past_its_date(made: Certificates) -> None:
    over, new = bundle(made, 5, life=-timedelta(hours=1)), bundle(made, 6)
    decision = decide(InForce(over, NOBODY), Offered(new, NOBODY), time.time())
    assert (decision.crl, codes(decision)) == (new.pem, [])


def test_denied_boxes_are_cut_once_and_again_after_a_new_list(made: Certificates) -> None:
    first, second = bundle(made, 1), bundle(made, 2)
    a, b = "vg-aaaaaaaaaaaaaaaa", "vg-bbbbbbbbbbbbbbbb"
    now = time.time()
    one = decide(InForce(first, frozenset({a})), Offered(first, frozenset({a, b})), now)
    assert (one.cut, one.reload) == ({b}, True)
    assert one.acl is not None
    assert f"user {b}" in one.acl
    two = decide(one.in_force, Offered(second, frozenset({a, b})), now)
    assert (two.cut, two.acl) == ({a, b}, None)
    three = decide(two.in_force, Offered(second, frozenset({b})), now)
    assert (three.cut, three.reload) == (NOBODY, True)


def test_what_cannot_be_read_leaves_everything_as_it_is(made: Certificates) -> None:
    before = InForce(bundle(made, 3), frozenset({"vg-aaaaaaaaaaaaaaaa"}))
    decision = decide(before, Offered("no list", "no boxes"), time.time())
    assert (decision.in_force, decision.reload, decision.cut) == (before, False, NOBODY)
    assert codes(decision) == ["crl-unusable", "denied-unusable"]
