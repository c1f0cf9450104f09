"""Names, labels, topics, JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.support.contract_strategies import BOX
from vigie.contract import identity, strictjson, topics
from vigie.contract.errors import ContractError, IdentityError, MessageError, TooLargeError, TopicError
from vigie.contract.words import Kind, Look, Order


def test_box_id() -> None:
    key = ec.derive_private_key(12345, ec.SECP256R1()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    got = identity.box_id(spki)
    assert got == "vg-" + base64.b32encode(hashlib.sha256(spki).digest())[:16].decode().lower()
    assert identity.check_box_id(got) == got
    with pytest.raises(IdentityError):
        identity.box_id(b"")


@pytest.mark.parametrize("text", ["", "vg-", "vg-" + "a" * 15, "vg-" + "a" * 17, "VG-" + "a" * 16, "vg-" + "1" * 16,
                                  "vg-" + "a" * 16 + "\n", "#", "+"])  # fmt: skip
def test_not_a_box_id(text: str) -> None:
    with pytest.raises(IdentityError):
        identity.check_box_id(text)


def test_purposes_are_different_oids() -> None:
    oids = {identity.EKU_BOX, identity.EKU_CHALLENGE, identity.EKU_ISSUING}
    assert len(oids) == 3
    for oid in oids:
        assert ObjectIdentifier(oid).dotted_string.startswith("2.25.")


@given(st.binary(min_size=7, max_size=16))
def test_claim_id_as_typed(random: bytes) -> None:
    claim = identity.claim_id(random)
    assert identity.check_claim_id(claim) == claim
    typed = claim.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert identity.check_claim_id(typed) == claim


@given(st.binary(min_size=7, max_size=7), st.integers(0, 11), st.integers(1, 31))
def test_claim_id_catches_a_wrong_character(random: bytes, at: int, shift: int) -> None:
    word = list(identity.claim_id(random).replace("-", ""))
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    word[at] = alphabet[(alphabet.index(word[at]) + shift) % 32]
    with pytest.raises(IdentityError, match="check character"):
        identity.check_claim_id("".join(word))


@given(st.binary(min_size=7, max_size=7), st.integers(0, 10))
def test_claim_id_catches_a_swap(random: bytes, at: int) -> None:
    word = list(identity.claim_id(random).replace("-", ""))
    if word[at] == word[at + 1]:
        return
    word[at], word[at + 1] = word[at + 1], word[at]
    with pytest.raises(IdentityError, match="check character"):
        identity.check_claim_id("".join(word))


@given(BOX)
def test_topics_are_parsed_back(box: str) -> None:
    for kind in Kind:
        assert topics.parse(topics.up(box, kind)) == topics.Up(box, kind)
    for order in Order:
        assert topics.parse(topics.down(box, order)) == topics.Down(box, order)
    for look in Look:
        assert topics.parse(topics.announcement(look)) == topics.All(look)
    assert topics.parse(topics.ring_firmware(7)) == topics.All(Look.FIRMWARE, 7)


@pytest.mark.parametrize("topic", ["", "vigie", "vigie/v1/+/up/state", "vigie/v1/#", "vigie/v2/all/down/base", "$SYS/x",
                                   "vigie/v1/all/down/desired", "vigie/v1/vg-" + "a" * 16 + "/up/desired",
                                   "vigie/v1/vg-" + "a" * 16 + "/down/state", "vigie/v1/vg-" + "a" * 16 + "/up/state/x",
                                   "vigie/v1/ring/100/down/firmware", "vigie/v1/ring/07/down/firmware",
                                   "vigie/v1/ring/١/down/firmware"])  # fmt: skip
def test_not_a_topic(topic: str) -> None:
    with pytest.raises(TopicError):
        topics.parse(topic)


def test_a_box_subscribes_to_no_wildcard() -> None:
    assert not any(c in f for f in topics.box_subscriptions("vg-" + "a" * 16) for c in "+#")


# ---- JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":{"b":1,"b":2}}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":' + b"1" * 30 + b"}", "digits"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested"),
        (b"[" * 30_000 + b"]" * 30_000, "JSON|nested|object"),
        (b"[1]", "object"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"\\uDc00":1}', "not JSON"),
        (b"", "not JSON"),
        (b'{"a":1} x', "not JSON"),
    ],
)
def test_json_that_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MessageError, match=why):
        strictjson.loads(data)


def test_json_pairs_are_text() -> None:
    assert strictjson.loads(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_json_size_comes_first() -> None:
    with pytest.raises(TooLargeError):
        strictjson.loads(b"{" * (strictjson.MESSAGE_MAX + 1))


@given(st.binary(max_size=200))
def test_json_from_anywhere(data: bytes) -> None:
    try:
        assert isinstance(strictjson.loads(data), dict)
    except ContractError:
        return
    assert isinstance(json.loads(data), dict)


@pytest.mark.parametrize("version", [4, 7, 130])
def test_what_is_no_certificate_is_always_one_of_these_errors(version: int) -> None:
    """A version that X.509 does not know is no ValueError for the library: one changed bit must not end a service."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    signed = made.not_valid_before(start).not_valid_after(start + timedelta(days=1)).sign(key, hashes.SHA256())
    data = bytearray(signed.public_bytes(Encoding.DER))
    place = data.index(bytes([0xA0, 3, 2, 1, 2])) + 4
    data[place] = version
    with pytest.raises(identity.UNREADABLE):
        x509.load_der_x509_certificate(bytes(data))
