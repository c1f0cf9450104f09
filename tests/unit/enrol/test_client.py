"""Conversations with the authority: what a good one leaves on disk, what a bad one is refused for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.enrol import authority as sim
from tests.unit.enrol import pki
from tests.unit.enrol.authority import ISSUING, ROOT, Authority, raw, refusal
from vigie.contract.enrolment import EnrolCode
from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING, box_uri
from vigie.enrol import credentials, identity, reset
from vigie.enrol import events as on
from vigie.enrol.client import Client
from vigie.enrol.codes import Code
from vigie.enrol.events import Event, Failed, Refused
from vigie.enrol.store import Store
from vigie.enrol.transport import Answer
from vigie.errors import HostError
from vigie.host.trusted_clock import TrustedClock


class Bench:
    """A box, its disk, its authority."""

    def __init__(self, folder: Path) -> None:
        # a proxy: nothing is asked of the real network (no portal, no look at the broker's ports)
        self.config, key = sim.box(folder, proxy="http://127.0.0.1:9")
        self.authority = Authority(key.public_key())
        self.restart()

    def restart(self) -> None:
        """A new process on the same disk."""
        self.clock = TrustedClock(self.config)
        self.clock.boot()
        self.store = Store(self.config.paths)
        self.client = Client(self.config, self.clock, self.store, self.authority)  # type: ignore[arg-type]

    def until(self, last: str) -> Event:
        """The steps up to `last`; all but the last must succeed."""
        event: Event = on.Due()
        for name in ("challenge", "prepare", "enrol", "keep", "confirm", "install"):
            event = getattr(self.client, name)()
            if name == last:
                return event
            assert not isinstance(event, Failed | Refused), (name, event)
        raise AssertionError(last)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_box_enrols_and_its_set_is_whole(bench: Bench) -> None:
    event = bench.until("install")
    assert isinstance(event, on.Installed)
    found = credentials.load(bench.config.paths)
    own = x509.load_pem_x509_certificates(found.cert_chain_path.read_bytes())
    assert found.box_id == bench.authority.box and found.mqtt_ports == (8883, 443)
    assert [c.subject.rfc4514_string() for c in own] == [f"CN={found.box_id}", "CN=issuing"]
    assert event.certificate.end == own[0].not_valid_after_utc.timestamp()
    assert bench.clock.word() == "signed" and abs(bench.clock.now() - bench.authority.now) < 5
    state = identity.join_state(bench.config.paths.identity)
    assert state is not None and b'"seq":1' in state.payload.replace(b" ", b"")
    assert bench.store.pending() is None and bench.store.granted() is None
    modes = {p.name: p.stat().st_mode & 0o777 for p in found.key_path.parent.iterdir()}
    assert modes["operational.key"] == 0o640, modes
    memory = bench.store.memory()
    assert memory.certificate == event.certificate and memory.joined and memory.reply is None


def test_a_lost_reply_is_asked_for_again_with_the_same_request(bench: Bench) -> None:
    bench.until("prepare")
    bench.authority.fail["enrol"] = [Code.AUTHORITY_DOWN]
    assert isinstance(bench.client.enrol(), on.Granted)  # repeated at once, before the machine waits
    bench.restart()
    bench.authority.fail["enrol"] = [Code.AUTHORITY_DOWN, Code.AUTHORITY_DOWN]
    assert isinstance(bench.until("enrol"), Failed)
    bench.restart()
    bench.until("install")
    assert len(set(bench.authority.csrs)) == 1, "the key of a request that may have been answered was thrown away"


@pytest.mark.parametrize("step", ["challenge", "prepare", "enrol", "keep", "confirm"])
def test_a_crash_after_each_step_goes_on_with_the_same_key(bench: Bench, step: str) -> None:
    bench.until(step)
    csr = bench.store.pending()
    bench.restart()
    memory = bench.store.memory()
    assert (memory.reply is not None) == (step in ("keep", "confirm"))
    if memory.reply is not None:
        for name in ("keep", "confirm", "install"):
            event = getattr(bench.client, name)()
            assert not isinstance(event, Failed | Refused), (name, event)
    else:
        bench.until("install")
    assert csr is None or bench.authority.csrs[-1] == csr.csr
    assert bench.store.memory().certificate is not None


def test_power_cut_between_reply_and_join_state(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.until("enrol")

    def cut(_folder: Path, _state: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(identity, "keep_join_state", cut)
        bench.client.keep()
    assert identity.join_state(bench.config.paths.identity) is None
    bench.restart()
    assert bench.store.memory().reply is not None
    assert isinstance(bench.client.keep(), on.Kept) and isinstance(bench.client.confirm(), on.Confirmed)
    assert identity.join_state(bench.config.paths.identity) is not None


def test_a_renewal_keeps_the_old_set_until_it_is_confirmed(bench: Bench) -> None:
    bench.until("install")
    before = credentials.load(bench.config.paths)
    bench.client.prepare()
    assert isinstance(bench.client.renew(), on.Granted)
    assert isinstance(bench.client.keep(), on.Kept)
    assert credentials.load(bench.config.paths) == before
    name, _data, key = bench.authority.requests[-1]
    assert name == "renew" and key is not None and key.chain.resolve() == before.cert_chain_path
    assert isinstance(bench.client.confirm(), on.Confirmed)
    assert credentials.load(bench.config.paths) == before
    assert isinstance(bench.client.install(), on.Installed)
    after = credentials.load(bench.config.paths)
    assert after.generation != before.generation and before.key_path.exists()
    assert after.key_path.read_bytes() != before.key_path.read_bytes()


def test_a_join_state_signed_by_a_new_challenge_key_is_accepted_once_the_key_is_known(bench: Bench) -> None:
    """CA rotation between the daily challenge and a renewal."""
    bench.until("install")
    bench.authority.challenge = pki.issue("challenge 2", ROOT, eku=(EKU_CHALLENGE,))
    bench.authority.issuing = pki.issue(
        "issuing 2", ROOT, ca=True, path_length=0, eku=(sim.CLIENT, EKU_BOX, EKU_ISSUING), end=pki.NOW + 900 * pki.DAY
    )
    bench.client.prepare()
    assert isinstance(bench.client.renew(), on.Granted)
    for name in ("keep", "confirm", "install"):
        event = getattr(bench.client, name)()
        assert not isinstance(event, Failed | Refused), (name, event)
    assert b"issuing 2" not in ROOT.pem
    chain = x509.load_pem_x509_certificates(credentials.load(bench.config.paths).cert_chain_path.read_bytes())
    assert chain[1].subject.rfc4514_string() == "CN=issuing 2"


def test_a_second_root_in_the_bundle_takes_over(bench: Bench) -> None:
    second = pki.issue("root 2", ca=True, path_length=1, end=pki.NOW + 7000 * pki.DAY)
    bench.config.paths.roots.write_bytes(ROOT.pem + second.pem)
    bench.authority.challenge = pki.issue("challenge", second, eku=(EKU_CHALLENGE,))
    bench.authority.issuing = pki.issue(
        "issuing", second, ca=True, path_length=0, eku=(sim.CLIENT, EKU_BOX, EKU_ISSUING)
    )
    assert isinstance(bench.until("install"), on.Installed)


OTHER_ROOT = pki.issue("root", ca=True, path_length=1)
MIDDLE = pki.issue("middle", ROOT, ca=True, path_length=0)


@pytest.mark.parametrize(
    ("signer", "words"),
    [
        (pki.issue("challenge", OTHER_ROOT, eku=(EKU_CHALLENGE,)), "not signed by a root"),
        (pki.issue("challenge", eku=(EKU_CHALLENGE,)), "not signed by a root"),
        (pki.issue("server", ROOT, eku=("1.3.6.1.5.5.7.3.1",)), "not signed by a certificate made for challenges"),
        (pki.issue("both", ROOT, eku=(EKU_CHALLENGE, sim.CLIENT)), "not signed by a certificate made for challenges"),
        (pki.issue("ca", ROOT, ca=True, eku=(EKU_CHALLENGE,)), "not an end certificate"),
        (pki.issue("none", ROOT), "not signed by a certificate made for challenges"),
        (
            pki.issue("old", ROOT, eku=(EKU_CHALLENGE,), start=pki.NOW - 90 * pki.DAY, end=pki.NOW - pki.DAY),
            "does not live at the time",
        ),
        (
            pki.issue("young", ROOT, eku=(EKU_CHALLENGE,), start=pki.NOW + pki.DAY, end=pki.NOW + 2 * pki.DAY),
            "does not live at the time",
        ),
    ],
)
def test_a_challenge_by_anybody_else_is_refused_and_moves_no_clock(
    bench: Bench, signer: pki.Issued, words: str
) -> None:
    bench.authority.challenge = signer
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is Code.PROTOCOL and words in event.detail, event
    assert bench.clock.word() != "signed"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"dev_nonce": "ab" * 32}, Code.PROTOCOL),  # a replay
        ({"time": int((pki.NOW - 100 * pki.DAY).timestamp())}, Code.PROTOCOL),  # before the certificate
        ({"time": 2_208_988_800}, Code.PROTOCOL),  # 2040
    ],
)
def test_a_challenge_that_says_something_else_is_refused(bench: Bench, claims: dict[str, object], code: Code) -> None:
    bench.authority.claims = claims
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is code, event
    assert bench.clock.word() != "signed"


def test_a_time_before_the_floor_is_a_clock_fault(bench: Bench) -> None:
    assert isinstance(bench.client.challenge(), on.Challenged)
    bench.authority.claims = {"time": bench.authority.now - 3600}
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is Code.CLOCK, event


def test_a_challenge_changed_on_the_way_is_refused(bench: Bench) -> None:
    def change(answer: Answer) -> Answer:
        value = json.loads(answer.body)
        signature = bytearray(base64.b64decode(value["challenge"]["signature"], validate=True))
        signature[-1] ^= 1  # still DER: only the number is another
        value["challenge"]["signature"] = base64.b64encode(signature).decode("ascii")
        return replace(answer, body=json.dumps(value).encode())

    bench.authority.spoil["challenge"] = change
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is Code.PROTOCOL, event


def _certificate(bench: Bench, **changes: object) -> Callable[[str], list[pki.Issued]]:
    """A chain for the pending key, with one thing changed."""
    pending = bench.store.pending()
    assert pending is not None
    fields: dict[str, object] = {
        "eku": (sim.CLIENT, EKU_BOX),
        "san": (x509.UniformResourceIdentifier(box_uri(bench.authority.box)),),
        "public": pending.key.public_key(),
    }
    name = str(changes.pop("name", bench.authority.box))
    by = changes.pop("by", ISSUING)
    assert isinstance(by, pki.Issued)
    above = [] if by is ROOT else [by]
    own = pki.issue(name, by, **(fields | changes))  # type: ignore[arg-type]
    return lambda what: [own, *above] if what == "enrol" else []


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "another key": ({"public": ec.generate_private_key(ec.SECP256R1()).public_key()}, "another key"),
    "another box": ({"name": "vg-aaaaaaaaaaaaaaaa"}, "is for"),
    "no URI": ({"san": ()}, "URI"),
    "another URI": ({"san": (x509.UniformResourceIdentifier("urn:vigie:box:vg-aaaaaaaaaaaaaaaa"),)}, "URI"),
    "a server": ({"eku": ("1.3.6.1.5.5.7.3.1",)}, "not one of a box"),
    "more than a box": ({"eku": (sim.CLIENT, EKU_BOX, EKU_ISSUING)}, "not one of a box"),
    "a CA": ({"ca": True}, "not an end certificate"),
    "straight from the root": ({"by": ROOT}, "issuing CA"),
    "another department": (
        {"by": pki.issue("issuing", OTHER_ROOT, ca=True, path_length=0, eku=(sim.CLIENT, EKU_BOX, EKU_ISSUING))},
        "not signed by a root",
    ),
    "an issuer that is no issuer": ({"by": MIDDLE}, "issuing CA"),
    "an issuer that is no CA": ({"by": pki.issue("x", ROOT, eku=(EKU_ISSUING,))}, "may not sign"),
    "expired": ({"start": pki.NOW - 9 * pki.DAY, "end": pki.NOW - pki.DAY}, "is not valid on"),
    "not yet": ({"start": pki.NOW + pki.DAY, "end": pki.NOW + 9 * pki.DAY}, "is not valid on"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_certificate_that_is_not_ours_is_refused_before_anything_is_kept(bench: Bench, wrong: str) -> None:
    bench.until("prepare")
    changes, words = WRONG[wrong]
    bench.authority.sent_chain = _certificate(bench, **changes)
    event = bench.client.enrol()
    assert isinstance(event, Failed) and event.code is Code.PROTOCOL and words in event.detail, event
    assert bench.store.granted() is None and identity.join_state(bench.config.paths.identity) is None


def test_a_path_that_is_too_long_or_has_strangers_is_refused(bench: Bench) -> None:
    bench.until("prepare")
    deep = pki.issue("deep", ISSUING, ca=True, eku=(sim.CLIENT, EKU_BOX, EKU_ISSUING))
    long = [*_certificate(bench, by=deep)("enrol"), ISSUING]
    bench.authority.sent_chain = lambda what: long if what == "enrol" else []
    event = bench.client.enrol()
    assert isinstance(event, Failed) and "CAs below it" in event.detail, event
    bench.until("prepare")
    good = _certificate(bench)("enrol")
    bench.authority.sent_chain = lambda what: [good[0], MIDDLE] if what == "enrol" else []
    event = bench.client.enrol()
    assert isinstance(event, Failed) and "was not signed by `CN=middle`" in event.detail, event
    bench.until("prepare")
    bench.authority.sent_chain = lambda what: [*good, ROOT] if what == "enrol" else []
    assert isinstance(bench.client.enrol(), on.Granted)  # the root may be sent along


@pytest.mark.parametrize("join", [{"serial": "VG-2026-000043"}, {"box": "vg-aaaaaaaaaaaaaaaa"}], ids=["serial", "box"])
def test_a_join_state_of_another_box_is_refused(bench: Bench, join: dict[str, object]) -> None:
    bench.authority.join = join
    event = bench.until("enrol")
    assert isinstance(event, Failed) and "not for this box" in event.detail, event


def test_a_join_state_by_somebody_else_is_refused(bench: Bench) -> None:
    bench.until("prepare")

    def forge(answer: Answer) -> Answer:
        value = json.loads(answer.body)
        value["join_state"]["signature"] = "MEUCIQ=="
        return replace(answer, body=json.dumps(value).encode())

    bench.authority.spoil["enrol"] = forge
    event = bench.client.enrol()
    assert isinstance(event, Failed) and event.code is Code.PROTOCOL, event


ANSWERS: list[tuple[Callable[[Answer], Answer], Event]] = [
    (refusal(403, EnrolCode.REFUSED), Refused("refused")),
    (refusal(409, EnrolCode.CONFLICT), Refused("conflict")),
    (refusal(409, EnrolCode.CLONE), Refused("clone")),
    (refusal(202, EnrolCode.WAIT, 90), Refused("wait", 90)),
    (refusal(429, EnrolCode.BUSY, 7), Refused("busy", 7)),
    (refusal(503, EnrolCode.BUSY), Refused("busy")),
    (refusal(400, EnrolCode.CHALLENGE), Refused("challenge")),
    (refusal(400, EnrolCode.MALFORMED), Refused("malformed")),
    (raw(503, b"<html>down</html>", 30), Refused("busy", 30)),
    (raw(502, b""), Refused("busy")),
    (refusal(500, EnrolCode.REFUSED), Refused("busy")),  # a refusal has its own number
]
NONSENSE = [
    raw(403, b"<html>Access denied by policy</html>"),  # a filter on the way cannot refuse the box for hours
    raw(200, b"<html>Welcome</html>"),
    raw(200, b"{}"),
    raw(200, b"{" * 20_000),
    raw(200, b'{"v":2}'),
    raw(302, b""),
    raw(404, b"not found"),
    raw(409, b'{"v":1,"code":"refused","retry_after_s":0}'),
    raw(403, b'{"v":1,"code":"gone","retry_after_s":0}'),
    raw(202, b"accepted"),
]


@pytest.mark.parametrize("case", ANSWERS, ids=lambda c: str(c[1]))
@pytest.mark.parametrize("step", ["challenge", "enrol", "confirm"])
def test_each_refusal_of_the_authority(bench: Bench, step: str, case: tuple[Callable[[Answer], Answer], Event]) -> None:
    bench.authority.spoil[step] = case[0]
    assert bench.until(step) == case[1]


@pytest.mark.parametrize("spoil", NONSENSE)
@pytest.mark.parametrize("step", ["challenge", "enrol", "confirm"])
def test_nonsense_is_told_from_a_refusal(bench: Bench, step: str, spoil: Callable[[Answer], Answer]) -> None:
    bench.authority.spoil[step] = spoil
    event = bench.until(step)
    assert isinstance(event, Failed) and event.code is Code.PROTOCOL, event


def test_enrolment_without_a_challenge_asks_for_one(bench: Bench) -> None:
    bench.until("enrol")
    assert bench.client.enrol() == Refused("challenge")  # a challenge is used once


@pytest.mark.parametrize("step", ["prepare", "keep", "install"])
def test_a_full_disk_is_its_own_reason(bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vigie.host import files

    before = {"prepare": "challenge", "keep": "enrol", "install": "confirm"}[step]
    bench.until(before)
    real = files.os.fsync

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    event = getattr(bench.client, step)()
    assert isinstance(event, Failed) and event.code is Code.DISK_FULL, event
    monkeypatch.setattr(files.os, "fsync", real)
    assert not isinstance(getattr(bench.client, step)(), Failed)


def test_decommissioning_tells_then_leaves_nothing(bench: Bench) -> None:
    bench.until("install")
    bench.client.prepare()
    paths = bench.config.paths
    keys = [credentials.load(paths).key_path.read_bytes(), (paths.identity / "identity.key").read_bytes()]
    assert isinstance(bench.client.leave(), on.Told)
    assert bench.store.memory().leaving
    assert isinstance(bench.client.erase(), on.Erased)
    memory = bench.store.memory()
    assert memory.decommissioned and memory.certificate is None and not memory.joined
    left = [p for p in (*paths.identity.rglob("*"), *paths.enrol.rglob("*")) if p.is_file()]
    assert not any(key[60:120] in path.read_bytes() for key in keys for path in left), left
    assert sorted(p.name for p in paths.identity.iterdir()) == ["box.json", "decommission.json"]
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is Code.IDENTITY


def test_a_reset_keeps_a_request_whose_reply_was_lost(bench: Bench) -> None:
    bench.until("prepare")
    bench.authority.fail["enrol"] = [Code.AUTHORITY_DOWN] * 2
    assert isinstance(bench.client.enrol(), Failed)
    request = bench.store.pending()
    reset.configuration(bench.config)
    assert bench.store.pending() is not None and bench.store.pending().csr == request.csr  # type: ignore[union-attr]
    bench.until("confirm")
    reset.configuration(bench.config)
    assert bench.store.pending() is None  # the join state is kept: another request is the next one


@pytest.mark.parametrize("name", ["identity.key", "box.json"])
@pytest.mark.parametrize("content", [None, b"", b"spoilt", b"\xff" * 100_000])
def test_a_spoilt_identity_is_a_reason_of_its_own(bench: Bench, name: str, content: bytes | None) -> None:
    path = bench.config.paths.identity / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    event = bench.client.challenge()
    assert isinstance(event, Failed) and event.code is Code.IDENTITY and name in event.detail, event


@pytest.mark.parametrize("name", ["operational.key", "request.csr", "reply.json"])
def test_spoilt_pending_files_are_made_again(bench: Bench, name: str) -> None:
    bench.until("keep")
    (bench.config.paths.enrol / "pending" / name).write_bytes(b"spoilt")
    bench.restart()
    assert bench.store.memory().reply is None
    assert isinstance(bench.until("install"), on.Installed)


def test_an_erased_file_is_overwritten_first(tmp_path: Path) -> None:
    path, other = tmp_path / "key", tmp_path / "same-blocks"
    path.write_bytes(b"secret")
    other.hardlink_to(path)
    identity.overwrite(path)
    assert not path.exists() and other.read_bytes() == bytes(6)
    identity.overwrite(path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dir"
    path.mkdir()
    with pytest.raises(HostError, match="dir"):
        identity.overwrite(path)
