"""One honest box, any accidents: it is never taken for a clone, never needs a person, never has two certificates.

A state machine over the real decision, store and keys. The box follows the rules that the contract gives it: the new
key is on disk before it is sent, the join state is on disk before the certificate is in force. All else may fail.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support import authority as rooms
from tests.support.authority import Room
from vigie.contract.enrolment import JoinState
from vigie_provisioning.authority import ca, records, schema
from vigie_provisioning.authority.checks import p256
from vigie_provisioning.authority.importing import import_register
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.authority.service import Granted, Refused, Service, Wish
from vigie_provisioning.register import read_operators

DAY = 86_400
_room: Room | None = None


def room() -> Room:
    """Keys are made once: what is tested are the steps."""
    global _room
    if _room is None:
        folder = tempfile.TemporaryDirectory(prefix="vigie-test-")
        atexit.register(folder.cleanup)
        _room = rooms.make(Path(folder.name) / "a")
        _room.buy(1)
    return _room


class HonestBox(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        place = room()
        self.ca = ca.load(place.config.places)
        self.service = Service(self.ca, 90)
        self.now = int(self.ca.challenge[0].certificate.not_valid_before_utc.timestamp()) + 600
        self.folder = tempfile.TemporaryDirectory(prefix="vigie-test-")
        self.db = schema.open_store(Path(self.folder.name) / "a.db")
        operators = read_operators(place.config.operators)
        import_register(self.db, place.register, operators, place.config.domain, "r", self.now)
        self.serial = "VG-00000"
        self.shown = 0
        self.pending: ec.EllipticCurvePrivateKey | None = None
        self.held: Any = None  # chain in force on the box
        self.old_store: Any = None

    def ask(self, kind: str) -> Granted:
        self.pending = self.pending or new_key()
        sid = b"" if kind == "renewed" else bytes(str(self.now), "ascii")
        wish = Wish(self.serial, self.shown, self.pending.public_key(), kind, sid, self.now + 120)
        self.db.execute("BEGIN")
        done = self.service.grant(self.db, wish, self.now)
        self.db.execute("COMMIT")
        assert not isinstance(done, Refused), done
        self.now += 1
        return done

    def keep_state(self, done: Granted) -> None:
        keys = [p256(issuer.certificate.public_key()) for issuer in self.ca.challenge]
        self.shown = JoinState.verify(done.join_state, keys[-1]).seq

    @rule(seconds=st.sampled_from([1, 3600, 30 * DAY, 100 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(lost=st.sampled_from(["nothing", "reply", "power before the certificate is kept"]))
    def enrols(self, lost: str) -> None:
        self.take(self.ask("enrolled"), lost)

    @precondition(lambda self: self.held is not None and self.usable())
    @rule(lost=st.sampled_from(["nothing", "reply", "power before the certificate is kept"]))
    def renews(self, lost: str) -> None:
        self.take(self.ask("renewed"), lost)

    def take(self, done: Granted, lost: str) -> None:
        if lost == "reply":
            return
        self.keep_state(done)
        if lost == "nothing":
            self.held, self.pending = done.chain, None

    @precondition(lambda self: self.held is not None)
    @rule(lost=st.booleans())
    def confirms(self, lost: bool) -> None:
        """With what it holds; a refusal (expired, superseded by one whose reply was lost) only means: enrol again."""
        del lost  # the authority has done it either way
        fingerprint = self.fingerprint()
        self.db.execute("BEGIN")
        done = self.service.confirm(self.db, fingerprint, self.now)
        self.db.execute("COMMIT")
        if isinstance(done, Refused):
            assert not self.usable(), "what the store calls usable is confirmed"

    @rule()
    def backs_up(self) -> None:
        self.old_store = Path(self.folder.name) / "backup.db"
        with closing(sqlite3.connect(self.old_store)) as copy:
            self.db.backup(copy)

    @precondition(lambda self: self.old_store is not None)
    @rule()
    def restores(self) -> None:
        """The department falls back to an older store, which knows nothing of what came since. The box is not told."""
        self.db.close()
        shutil.copyfile(self.old_store, Path(self.folder.name) / "a.db")
        self.db = schema.open_store(Path(self.folder.name) / "a.db")

    def fingerprint(self) -> bytes:
        return records.fingerprint_of(x509.load_pem_x509_certificate(self.held[0].encode()))

    def usable(self) -> bool:
        held = records.certificate(self.db, self.fingerprint())
        return held is not None and held.state != "revoked" and self.now <= held.not_after

    @invariant()
    def one_active_certificate(self) -> None:
        if not hasattr(self, "db"):
            return
        states = [row["state"] for row in self.db.execute("SELECT state FROM certificates WHERE state != 'revoked'")]
        assert states.count("active") <= 1
        assert states.count("pending") <= 1

    @invariant()
    def nobody_is_suspected(self) -> None:
        if hasattr(self, "db"):
            kinds = {row["kind"] for row in self.db.execute("SELECT kind FROM events")}
            assert not kinds & {"clone", "conflict"}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()


HonestBox.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHonestBox = pytest.mark.slow(HonestBox.TestCase)
