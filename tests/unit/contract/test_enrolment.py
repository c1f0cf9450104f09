"""Bodies of the authority's API, statements, attestation; the base's descriptor."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract import base, enrolment, signed
from vigie.contract.base import Delta, Descriptor, File, Override
from vigie.contract.enrolment import (
    Challenge,
    ChallengeReply,
    ChallengeRequest,
    ConfirmReply,
    ConfirmRequest,
    DecommissionRequest,
    EnrolCode,
    EnrolReply,
    EnrolRequest,
    JoinState,
    Meta,
    Purpose,
    Refusal,
    RenewRequest,
    attestation,
    farewell,
    possession,
)
from vigie.contract.errors import ContractError, MessageError, SignatureError
from vigie.contract.signed import Signed

KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER = ec.derive_private_key(8, ec.SECP256R1())
BOX = "vg-" + "a" * 16
PEM = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"
CHALLENGE = Challenge("0" * 32, "1" * 64, "2" * 64, 1_800_000_000, 120)
JOIN = JoinState("VG-0001", BOX, 3, 1_800_000_000)
STATEMENT = JOIN.sign(KEY)

BODIES = [
    ChallengeRequest("VG-0001", "vigie-cm4", "2" * 64),
    ChallengeReply(CHALLENGE.sign(KEY), (PEM,)),
    EnrolRequest("0" * 32, b"csr", None, Meta("vigie-cm4", "0.1.0", ""), b"signature"),
    EnrolRequest("0" * 32, b"csr", STATEMENT, Meta("vigie-cm4", "0.1.0", "a" * 64), b"signature"),
    EnrolReply((PEM, PEM), "mqtt.vigie.lab", (8883, 443), STATEMENT),
    ConfirmRequest("ab12", b"signature"),
    ConfirmReply("active"),
    RenewRequest(b"csr", STATEMENT, b"signature"),
    DecommissionRequest(b"signature"),
    DecommissionRequest(b"signature", "0" * 64),
    Refusal(EnrolCode.REFUSED, 60),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: type(b).__name__)
def test_bodies_are_read_back(body: object) -> None:
    assert type(body).from_bytes(body.to_bytes()) == body  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("kind", {type(b) for b in BODIES}, ids=lambda t: t.__name__)
@given(data=st.binary(max_size=200))
def test_bytes_from_anywhere(kind: type, data: bytes) -> None:
    with pytest.raises(ContractError):
        kind.from_bytes(data)  # type: ignore[attr-defined]


def test_requests_hold_nothing_unknown() -> None:
    """The authority reads what strangers send; a box reads what a newer authority answers."""
    for body in BODIES:
        more = json.dumps(json.loads(body.to_bytes()) | {"later": 1}).encode()
        if type(body).__name__.endswith("Request"):
            with pytest.raises(MessageError, match="unknown field"):
                type(body).from_bytes(more)
        else:
            assert type(body).from_bytes(more) == body


def test_challenge_answers_one_question() -> None:
    public = KEY.public_key()
    assert Challenge.verify(CHALLENGE.sign(KEY), public, "2" * 64) == CHALLENGE
    with pytest.raises(MessageError, match="another question"):
        Challenge.verify(CHALLENGE.sign(KEY), public, "3" * 64)
    with pytest.raises(SignatureError):
        Challenge.verify(CHALLENGE.sign(OTHER), public, "2" * 64)


def test_a_challenge_is_no_join_state() -> None:
    """The type is part of what is signed."""
    body = {"v": 1, "serial": "VG-0001", "box": BOX, "seq": 9, "issued": 1}
    as_challenge = signed.sign(body, signed.CHALLENGE_TYPE, KEY)
    with pytest.raises(SignatureError):
        JoinState.verify(as_challenge, KEY.public_key())
    assert JoinState.verify(STATEMENT, KEY.public_key()) == JOIN


def test_only_p256() -> None:
    wrong = ec.derive_private_key(7, ec.SECP384R1())
    with pytest.raises(SignatureError, match="P-256"):
        signed.verify_es256(wrong.public_key(), b"", b"")


def test_join_state_file() -> None:
    assert Signed.from_bytes(STATEMENT.to_bytes()) == STATEMENT


def test_attestation_covers_everything() -> None:
    given_ = {
        "sid": "00" * 16, "srv_nonce": "11" * 32, "dev_nonce": "22" * 32, "csr": b"csr", "server_spki": b"spki",
        "software": "0.1.0", "join_state": None,
    }  # fmt: skip
    first = attestation(**given_)  # type: ignore[arg-type]
    assert first.startswith(b"VG1\0\0\0\x10" + bytes(16))
    others = {
        "sid": "01" * 16, "srv_nonce": "12" * 32, "dev_nonce": "23" * 32, "csr": b"csr2", "server_spki": b"spki2",
        "software": "0.1.1", "join_state": STATEMENT,
    }  # fmt: skip
    texts = {attestation(**(given_ | {name: value})) for name, value in others.items()}  # type: ignore[arg-type]
    assert len(texts | {first}) == 8


def test_possession_is_of_one_purpose() -> None:
    """What was signed to confirm renews nothing."""
    texts = {possession(p, b"certificate", b"csr", STATEMENT) for p in Purpose}
    texts |= {
        possession(Purpose.RENEW, b"certificate", b"csr"),
        possession(Purpose.RENEW, b"another", b"csr", STATEMENT),
    }
    assert len(texts) == len(Purpose) + 2
    assert not any(text.startswith(b"VG1\0") for text in texts)
    assert farewell(sid="00" * 16, srv_nonce="11" * 32, dev_nonce="22" * 32, server_spki=b"spki") not in texts


def test_challenge_id_is_whole_bytes() -> None:
    assert enrolment.SID.fullmatch("0" * 33) is None
    assert enrolment.SID.fullmatch("0" * 514) is None


def test_chain_is_bounded() -> None:
    reply = json.loads(BODIES[1].to_bytes())
    for chain in ([], [PEM] * 5, ["x"], [PEM + "x" * 9000], [3]):
        with pytest.raises(MessageError):
            ChallengeReply.from_bytes(json.dumps(reply | {"chain": chain}).encode())
    assert enrolment.BODY_MAX > 4 * enrolment.PEM_MAX - 1024


# ---- base ------------------------------------------------------------------------------------------------------

FILE = File(12, "base/base-12.vgb", "a" * 64, 100)
DESCRIPTOR = Descriptor(
    FILE, 5, 1000, replace(FILE, version=11, path="base/base-11.vgb"), None,
    (Delta(11, 12, "base/delta-11-12.vgd", "b" * 64, 10),),
)  # fmt: skip


def test_descriptor() -> None:
    assert Descriptor.from_bytes(DESCRIPTOR.to_bytes()) == DESCRIPTOR
    assert DESCRIPTOR.delta(11, 12) == DESCRIPTOR.deltas[0]
    assert DESCRIPTOR.delta(10, 12) is None
    for change in ({"path": "base/../../etc/passwd"}, {"path": "base/base-13.vgb"}, {"length": 10**12}, {"share": 50}):
        data = json.loads(DESCRIPTOR.to_bytes())
        data["released"] |= change
        with pytest.raises(MessageError, match=r"base\.released"):
            Descriptor.from_bytes(json.dumps(data).encode())


def test_waves() -> None:
    boxes = [f"vg-{i:016}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d") for i in range(2000)]
    first = [b for b in boxes if DESCRIPTOR.wanted(b) == FILE]
    assert 0.03 < len(first) / len(boxes) < 0.07
    assert all(replace(DESCRIPTOR, share=100).wanted(b) == FILE for b in boxes)
    # Other boxes go first at the next release.
    again = [b for b in first if base.ring(b, 13) < 5]
    assert len(again) < len(first) / 3


def test_ring_is_fixed_for_ever() -> None:
    """Boxes and publisher compute it apart, in versions years apart."""
    assert [base.ring("vg-" + "a" * 16, v) for v in (1, 2, 3)] == RINGS


RINGS = [71, 6, 95]


def test_override() -> None:
    override = Override(12, "a" * 64)
    assert Override.from_bytes(override.to_bytes()) == override
