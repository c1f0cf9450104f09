"""What the signer does: each operation judges, signs, writes the log, and only then answers.

No socket here: `daemon` gives the operations to one thread, so none of them runs beside another.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vigie.contract import dsse, strictjson
from vigie.contract.downward import Command, Desired
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie_department.errors import DepartmentError
from vigie_department.signer import rules, tufstate
from vigie_department.signer.bucket import Bucket, Rate
from vigie_department.signer.ceremony import Ceremony
from vigie_department.signer.errors import LogBroken, RuleError
from vigie_department.signer.keys import days
from vigie_department.signer.log import SEGMENT_RECORDS, ChainedLog, canonical
from vigie_department.signer.params import HEX_SIGNATURE, NAME, text_of
from vigie_department.signer.publishing import Publication
from vigie_department.signer.repository import Repository
from vigie_department.signer.rules import APPROVALS, EMERGENCY_BASE
from vigie_department.signer.settings import SignerSettings
from vigie_department.signer.state import State
from vigie_department.signer.store import Store
from vigie_department.signer.tufstate import TufState

log = logging.getLogger("vigie.signer")

APPROVAL_TYPE: Final = "application/vnd.vigie.approval+json"
LOG_ANSWER: Final = 1000
Params = Mapping[str, Any]
Answer = dict[str, Any]


def rates_of(settings: SignerSettings) -> dict[str, Rate]:
    """Bucket sizes by kind of signature."""
    return {
        kind: Rate(getattr(settings, f"{kind}_burst"), getattr(settings, f"{kind}_per_hour"))
        for kind in ("desired", "firmware", "command", "publish", "refresh", "revert", "request")
    }


class Service:
    """One signer. clock: Unix seconds."""

    def __init__(
        self,
        folder: Path,
        repository: Path,
        settings: SignerSettings,
        *,
        clock: Callable[[], float] = time.time,
        segment_records: int = SEGMENT_RECORDS,
    ) -> None:
        self._store = Store(folder)
        self._repository = Repository(repository)
        self._settings = settings
        self._clock = clock
        self._rates = rates_of(settings)
        self._state = State()
        self._failed = ""
        self._ceremony = Ceremony(self._store, days(settings))
        self._tuf = self._ceremony.finish(clock())
        self._keys = self._store.online_keys()
        self._steering_keys = self._store.steering_keys()
        self._steering = self._store.steering()
        self._log = ChainedLog(
            self._store.log, lambda record: self._state.apply(record, self._rates), self._state.checkpoint,
            segment_records=segment_records,
        )  # fmt: skip

    def close(self) -> None:
        """Ends writing the log."""
        self._log.close()

    # What is signed for boxes

    def sign_desired(self, peer: str, params: Params) -> Answer:
        """{payload, operator} or, when keyholders signed it before, {envelope, operator} -> {envelope: text}."""
        now, f = self._clock(), Fields("sign-desired", dict(params))
        operator = text_of(f, "operator")
        envelope = self._envelope(f, dsse.DESIRED_TYPE)
        desired = Desired.from_bytes(envelope.payload)
        second = self._steering.second_signed(envelope)
        held = rules.check_desired(self._state, desired, second_signed=second, now=now)
        takes = ["desired"]
        facts: Answer = {"box": desired.box, "version": desired.version, "takes": takes}
        if (told := rules.new_firmware(self._state, desired)) is not None:
            takes.append("firmware")
            facts["firmware"] = told
        for kind in takes:
            self._check_rate(kind, now)
        signed = self._sign(envelope)
        if held:
            facts["held"] = held
        if second:
            facts["second"] = sorted(dsse.signers(envelope, self._steering.second))
        self._record(now, "desired", operator, peer, _digest(envelope.payload), facts)
        return {"envelope": signed.to_bytes().decode()}

    def sign_command(self, peer: str, params: Params) -> Answer:
        """{payload, operator} -> {envelope: text}."""
        now, f = self._clock(), Fields("sign-command", dict(params))
        operator = text_of(f, "operator")
        envelope = self._envelope(f, dsse.COMMAND_TYPE)
        command = Command.from_bytes(envelope.payload)
        rules.check_command(command, now=now)
        self._check_rate("command", now)
        signed = self._sign(envelope)
        facts = {"box": command.box, "id": command.id, "op": command.op, "takes": ["command"]}
        self._record(now, "command", operator, peer, _digest(envelope.payload), facts)
        return {"envelope": signed.to_bytes().decode()}

    def _envelope(self, f: Fields, payload_type: str) -> dsse.Envelope:
        if f.has("envelope"):
            envelope = dsse.Envelope.from_bytes(f.text("envelope", dsse.ENVELOPE_MAX).encode())
            f.skip("payload")
            if envelope.payload_type != payload_type:
                raise RuleError(f"an envelope of {envelope.payload_type} where {payload_type} is expected")
        else:
            f.skip("envelope")
            payload = f.take("payload")
            if not isinstance(payload, dict):
                f.fail("payload", "an object is expected")
            envelope = dsse.Envelope(strictjson.dumps(payload), payload_type, ())
        f.done()
        return envelope

    def _sign(self, envelope: dsse.Envelope) -> dsse.Envelope:
        for key in self._steering_keys:
            envelope = dsse.add_signature(envelope, key)
        return envelope

    # TUF

    def tuf_publish(self, peer: str, params: Params) -> Answer:
        """{targets: {path: {length, sha256, custom?}}, remove: [path], operator, descriptor?: text, emergency?,
        approval?, revert?: version} -> {files: {name: base64}}.

        descriptor: the content of `base/current.json`, whenever that is among the targets. emergency: to all at once,
        as `approval` (a request's id) allows. revert: to all at once, as it holds what that released version holds.
        """
        now, wanted = self._clock(), Publication.read(params)
        before, wave_s = self._tuf.base_files(), float(self._settings.wave_s)
        takes = ["publish"]
        facts: Answer = {
            "targets": {path: info.sha256 for path, info in wanted.changed.items()},
            "removed": list(wanted.removed),
        }
        step = wanted.step(self._state, before, wave_s=wave_s, now=now)
        if step is not None:
            facts["released"] = asdict(step)
            if not step.restrained:
                facts |= wanted.excuse(self._state, step, self._repository, wave_s=wave_s, now=now)
                takes += ["revert"] if "revert" in facts else []
        for kind in takes:
            self._check_rate(kind, now)
        facts["takes"] = takes
        state = tufstate.advance(self._tuf, self._keys, now, days(self._settings), self._floor(), wanted.listed(before))
        self._put("publish", wanted.operator, peer, now, state, facts)
        return self.files()

    def tuf_refresh(self, peer: str, params: Params) -> Answer:
        """{} -> {files}: a fresh timestamp, and what else is in the second half of its life."""
        Fields("tuf-refresh", dict(params)).done()
        now = self._clock()
        self._check_rate("refresh", now)
        state = tufstate.advance(self._tuf, self._keys, now, days(self._settings), self._floor(), None)
        self._put("refresh", "", peer, now, state, {"takes": ["refresh"]})
        return self.files()

    def tuf_current(self, _peer: str, params: Params) -> Answer:
        """{} -> {files}: what was signed last, for a repository that missed it."""
        Fields("tuf-current", dict(params)).done()
        return self.files()

    def _floor(self) -> tufstate.Versions:
        """Versions that were signed: after a crash the log may know of later ones than the files, or the reverse."""
        logged, kept = self._state.versions, self._tuf.versions
        return tufstate.Versions(
            max(logged.timestamp, kept.timestamp), max(logged.snapshot, kept.snapshot), max(logged.base, kept.base)
        )

    def files(self) -> Answer:
        """The metadata as served."""
        return {"files": {name: base64.b64encode(data).decode() for name, data in self._tuf.files().items()}}

    def _put(self, op: str, who: str, peer: str, now: float, state: TufState, facts: Answer) -> None:
        self._record(now, op, who, peer, _digest(state.timestamp), {**facts, "tuf": asdict(state.versions)})
        tufstate.save(self._store.tuf, state)
        self._tuf = state

    # Two operators

    def request(self, peer: str, params: Params) -> Answer:
        """{kind, body, operator} -> {id, kind, body, expires, digest}. `emergency-base`: body {version, sha256}."""
        now, f = self._clock(), Fields("request", dict(params))
        kind, operator = text_of(f, "kind"), text_of(f, "operator")
        if kind != EMERGENCY_BASE:
            f.fail("kind", f"{EMERGENCY_BASE} is expected")
        body = f.object("body")
        checked = rules.emergency_body(body.integer("version", 1), body.text("sha256", 64, least=64))
        body.done()
        f.done()
        self._check_rate("request", now)
        request_id = secrets.token_hex(4)
        expires = int(now + self._settings.approval_s)
        digest = _digest(canonical(checked))
        facts = {"id": request_id, "kind": kind, "expires": expires, "body": checked}
        self._record(now, "request", operator, peer, digest, {**facts, "takes": ["request"]})
        return {**facts, "digest": digest}

    def approve(self, peer: str, params: Params) -> Answer:
        """{id, operator, signature: hex} -> {approved: number, needed}. The signature is of the operator's own key."""
        now, f = self._clock(), Fields("approve", dict(params))
        request_id, operator = text_of(f, "id"), text_of(f, "operator")
        signature = bytes.fromhex(f.text("signature", 128, HEX_SIGNATURE))
        f.done()
        request = self._state.requests.get(request_id)
        if request is None or request.expires < now:
            raise RuleError(f"there is no open request {request_id!r}")
        public = self._state.operators.get(operator)
        if public is None:
            raise RuleError(f"{operator!r} is not an operator of this signer: `vigie-department operator list`")
        message = dsse.pae(
            APPROVAL_TYPE, rules.approval_message(request_id, request.kind, request.body, request.expires)
        )
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)
        except InvalidSignature as e:
            raise RuleError(f"that is not {operator}'s signature over request {request_id}") from e
        if operator not in request.approvals:  # said again, it fills the log and changes nothing
            facts = {"id": request_id, "signature": signature.hex()}
            self._record(now, "approve", operator, peer, request.digest, facts)
        return {"approved": len(request.approvals), "needed": APPROVALS}

    def requests(self, _peer: str, params: Params) -> Answer:
        """{} -> {requests: [...]}: open ones, and those of the last days."""
        Fields("requests", dict(params)).done()
        rows = [{"id": i, **asdict(r)} for i, r in self._state.requests.items()]
        return {"requests": sorted(rows, key=lambda row: row["expires"])}

    def operator_add(self, peer: str, params: Params) -> Answer:
        """{name, public: hex} -> {operators}. Only root and the signer's user may."""
        f = Fields("operator-add", dict(params))
        name, public = f.text("name", 40, NAME), f.text("public", 64, dsse.KEYID)
        f.done()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        if public in self._state.operators.values():
            raise RuleError("that key belongs to an operator already: two persons need two keys")
        if name in self._state.operators:
            raise RuleError(f"{name}: is an operator already; remove the old key first")
        self._record(self._clock(), "operator", name, peer, "", {"name": name, "public": public})
        return self.operators(peer, {})

    def operator_remove(self, peer: str, params: Params) -> Answer:
        """{name} -> {operators}. Only root and the signer's user may."""
        f = Fields("operator-remove", dict(params))
        name = f.text("name", 40, NAME)
        f.done()
        if name not in self._state.operators:
            raise RuleError(f"{name}: is not an operator")
        self._record(self._clock(), "operator", name, peer, "", {"name": name, "public": None})
        return self.operators(peer, {})

    def operators(self, _peer: str, params: Params) -> Answer:
        """{} -> {operators: {name: public}}."""
        Fields("operators", dict(params)).done()
        return {"operators": dict(self._state.operators)}

    # Ceremonies

    def next_keys(self, peer: str, params: Params) -> Answer:
        """{} -> {public: {role: hex}}: keys for a rotation, made on the first call, in force after the ceremony."""
        Fields("next-keys", dict(params)).done()
        public = {role: key.hex() for role, key in self._store.next_keys().items()}
        self._record(self._clock(), "next-keys", "", peer, _digest(canonical(public)), {"public": public})
        return {"public": public}

    def install(self, peer: str, params: Params) -> Answer:
        """{proposal: text} -> {files}: what keyholders signed comes in force. Its files are served already."""
        now, f = self._clock(), Fields("install", dict(params))
        data = text_of(f, "proposal", 8 << 20).encode()
        f.done()
        prepared = self._ceremony.prepare(self._tuf, data)
        missing = self._repository.missing(prepared.offline_files())
        if missing:
            raise RuleError(f"{missing[0]}: is not in the repository yet; publish the files of the proposal first")
        facts = {"root": max(prepared.roots), "targets": prepared.targets_version}
        self._record(now, "install", "", peer, _digest(data), facts)
        self._ceremony.begin(data)
        self._tuf = self._ceremony.finish(now)
        self._record(now, "installed", "", peer, _digest(self._tuf.timestamp), {"tuf": asdict(self._tuf.versions)})
        self._keys = self._store.online_keys()
        self._steering_keys, self._steering = self._store.steering_keys(), self._store.steering()
        return self.files()

    def retire_steering(self, peer: str, params: Params) -> Answer:
        """{} -> {retired: bool}: the former steering key signs no more."""
        Fields("retire-steering", dict(params)).done()
        retired = self._store.retire_steering()
        self._steering_keys = self._store.steering_keys()
        self._record(self._clock(), "retire-steering", "", peer, "", {"retired": retired})
        return {"retired": retired}

    # Looking

    def read_log(self, _peer: str, params: Params) -> Answer:
        """{after: n, limit?} -> {records: [...]}, oldest first."""
        f = Fields("log", dict(params))
        after = f.integer("after")
        limit = f.integer("limit", 1, LOG_ANSWER) if f.has("limit") else 100
        f.skip("limit")
        f.done()
        return {"records": [asdict(record) for record in self._log.after(after, limit)]}

    def status(self, _peer: str, params: Params) -> Answer:
        """{} -> what `doctor` asks: ends of life, last record, how many boxes are held."""
        Fields("status", dict(params)).done()
        now = self._clock()
        return {
            "failed": self._failed,
            "records": self._log.seq,
            "expires": {name: int(when.timestamp()) for name, when in self._tuf.expires().items()},
            "held": sorted(box for box, until in self._state.held.items() if until > now),
            "operators": sorted(self._state.operators),
            "releases": {str(v): asdict(r) for v, r in sorted(self._state.releases.items())[-5:]},
            "old_steering": len(self._steering_keys) > 1,
        }

    def _check_rate(self, kind: str, now: float) -> None:
        rate = self._rates[kind]
        bucket = self._state.buckets.get(kind, Bucket(rate.burst, now))
        rules.check_rate(bucket.wait(rate, now), kind)

    def _record(self, now: float, op: str, who: str, peer: str, digest: str, facts: Answer) -> None:
        """On the disk, then in memory. After a failure of the disk nothing is signed any more until a restart."""
        if self._failed:
            raise LogBroken(self._failed)
        try:
            record = self._log.append(now, op, who, peer, digest, facts)
        except OSError as e:
            self._failed = (
                f"the log cannot be written ({e.strerror or e}): make room on the disk, then restart the signer"
            )
            log.critical("%s", self._failed)
            raise LogBroken(self._failed) from e
        self._state.apply(record, self._rates)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


#: Errors that are told to the caller as they are.
TOLD: Final = (DepartmentError, ContractError)
