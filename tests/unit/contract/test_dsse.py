"""DSSE: nothing but the signed bytes, by enough different keys, over the right type."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.contract import dsse
from vigie.contract.errors import ContractError, MessageError, SignatureError, TooLargeError
from vigie.contract.trust import SteeringKeys

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(6)]
PUBLIC = {dsse.keyid(dsse.public_bytes(k)): dsse.public_bytes(k) for k in KEYS}
TRUST = SteeringKeys.of((dsse.public_bytes(KEYS[0]),), tuple(dsse.public_bytes(k) for k in KEYS[1:]))


def test_pae_of_the_specification() -> None:
    """The example of secure-systems-lab/dsse, protocol.md."""
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_keeps_type_and_payload_apart() -> None:
    assert dsse.pae("a", b"b 1 c") != dsse.pae("a 5 b", b"1 c")


@given(st.binary(max_size=3000), st.sets(st.integers(0, 5), min_size=1), st.integers(1, 6))
@settings(max_examples=60)
def test_threshold(payload: bytes, signers: set[int], threshold: int) -> None:
    data = dsse.sign(payload, dsse.DESIRED_TYPE, *(KEYS[i] for i in signers)).to_bytes()
    if len(signers) >= threshold:
        assert dsse.verify(data, PUBLIC, threshold, dsse.DESIRED_TYPE) == payload
    else:
        with pytest.raises(SignatureError):
            dsse.verify(data, PUBLIC, threshold, dsse.DESIRED_TYPE)


@given(st.data())
@settings(max_examples=150)
def test_a_changed_byte_is_another_message(data: st.DataObject) -> None:
    """Any change of the envelope's bytes gives the same payload (a change of white space) or none."""
    payload = b'{"box":"x","version":3}'
    raw = bytearray(dsse.sign(payload, dsse.DESIRED_TYPE, KEYS[0]).to_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        got = dsse.verify(bytes(raw), PUBLIC, 1, dsse.DESIRED_TYPE)
    except ContractError:
        return
    assert got == payload


def test_one_key_does_not_count_twice() -> None:
    envelope = dsse.sign(b"x", dsse.DESIRED_TYPE, KEYS[0])
    doubled = replace(envelope, signatures=envelope.signatures * 3)
    with pytest.raises(SignatureError, match="1 of the 2"):
        dsse.verify(doubled, PUBLIC, 2, dsse.DESIRED_TYPE)


def test_key_under_a_false_name_does_not_count() -> None:
    """A table of trusted keys that names one key twice (a mistake) still counts it once."""
    one = dsse.public_bytes(KEYS[0])
    table = {dsse.keyid(one): one, "0" * 64: one}
    good = dsse.sign(b"x", dsse.DESIRED_TYPE, KEYS[0])
    forged = replace(good, signatures=(*good.signatures, dsse.Signature("0" * 64, good.signatures[0].sig)))
    with pytest.raises(SignatureError):
        dsse.verify(forged, table, 2, dsse.DESIRED_TYPE)


def test_other_type() -> None:
    envelope = dsse.sign(b"x", dsse.COMMAND_TYPE, KEYS[0])
    with pytest.raises(SignatureError, match="is expected"):
        dsse.verify(envelope, PUBLIC, 1, dsse.DESIRED_TYPE)
    with pytest.raises(SignatureError):
        dsse.verify(replace(envelope, payload_type=dsse.DESIRED_TYPE), PUBLIC, 1, dsse.DESIRED_TYPE)


def test_no_signature_and_no_threshold() -> None:
    with pytest.raises(SignatureError):
        dsse.verify(dsse.sign(b"x", dsse.DESIRED_TYPE), PUBLIC, 1, dsse.DESIRED_TYPE)
    with pytest.raises(SignatureError, match="below 1"):
        dsse.verify(dsse.sign(b"x", dsse.DESIRED_TYPE), PUBLIC, 0, dsse.DESIRED_TYPE)


def test_bounds() -> None:
    with pytest.raises(TooLargeError):
        dsse.sign(b"x" * (dsse.PAYLOAD_MAX + 1), dsse.DESIRED_TYPE, KEYS[0])
    largest = dsse.sign(
        b"x" * dsse.PAYLOAD_MAX, dsse.DESIRED_TYPE, *KEYS, *(Ed25519PrivateKey.generate() for _ in "ab")
    )
    assert len(largest.to_bytes()) <= dsse.ENVELOPE_MAX
    assert dsse.verify(largest.to_bytes(), PUBLIC, 6, dsse.DESIRED_TYPE) == largest.payload
    with pytest.raises(TooLargeError):
        dsse.Envelope.from_bytes(b" " * (dsse.ENVELOPE_MAX + 1))
    with pytest.raises(SignatureError, match="already has"):
        dsse.add_signature(largest, Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "====", },
        {"payload": "YQ"},
        {"payload": "YR=="},  # the bits beyond the last byte are not zero
        {"payload": "Y Q=="},
        {"payload": base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode()},
        {"payloadType": ""},
        {"payloadType": "text/plain\n"},
        {"signatures": {}},
        {"signatures": [{"keyid": "a" * 64, "sig": "YQ==", "cert": "x"}]},
        {"signatures": [{"keyid": "A" * 64, "sig": "YQ=="}]},
        {"signatures": [{"keyid": "a" * 64, "sig": "YQ=="}] * 9},
        {"extra": 1},
    ],
)  # fmt: skip
def test_strict_parsing(change: dict[str, object]) -> None:
    good = json.loads(dsse.sign(b"payload", dsse.DESIRED_TYPE, KEYS[0]).to_bytes())
    with pytest.raises(MessageError):
        dsse.Envelope.from_bytes(json.dumps(good | change).encode())


def test_duplicate_names() -> None:
    """What is checked must be what is used: another parser could take the other payload."""
    text = dsse.sign(b"payload", dsse.DESIRED_TYPE, KEYS[0]).to_bytes().decode()
    with pytest.raises(MessageError, match="twice"):
        dsse.Envelope.from_bytes(text.replace("{", '{"payload":"YQ==",', 1).encode())


@given(st.binary(max_size=300))
def test_bytes_from_anywhere(data: bytes) -> None:
    with pytest.raises(ContractError):
        dsse.verify(data, PUBLIC, 1, dsse.DESIRED_TYPE)


# ---- steering keys ---------------------------------------------------------------------------------------------


def test_steering_file_is_read_back() -> None:
    assert SteeringKeys.from_bytes(TRUST.to_bytes()) == TRUST


def test_offline_keys_are_no_online_key() -> None:
    envelope = dsse.sign(b"x", dsse.DESIRED_TYPE, *KEYS[1:3])
    with pytest.raises(SignatureError):
        TRUST.verify(envelope, dsse.DESIRED_TYPE)
    assert TRUST.second_signed(envelope)
    assert not TRUST.second_signed(dsse.sign(b"x", dsse.DESIRED_TYPE, KEYS[0], KEYS[1]))


def test_steering_file_mistakes() -> None:
    one = json.loads(TRUST.to_bytes())
    both = one | {"keys": [one["second"]["keys"][0]]}
    with pytest.raises(MessageError, match="both online and offline"):
        SteeringKeys.from_bytes(json.dumps(both).encode())
    wrong = one | {"keys": [{"keyid": "0" * 64, "public": one["keys"][0]["public"]}]}
    with pytest.raises(MessageError, match="not the SHA-256"):
        SteeringKeys.from_bytes(json.dumps(wrong).encode())
    with pytest.raises(MessageError, match="cannot be had"):
        SteeringKeys.from_bytes(json.dumps(one | {"second": one["second"] | {"threshold": 6}}).encode())
    with pytest.raises(MessageError, match="at least one"):
        SteeringKeys.from_bytes(json.dumps(one | {"keys": []}).encode())
