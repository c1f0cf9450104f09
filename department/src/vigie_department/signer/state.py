"""What the rules have to remember. It is made of the log's records and of nothing else, so it survives any restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from vigie_department.signer.bucket import Bucket, Rate
from vigie_department.signer.log import CHECKPOINT, Record
from vigie_department.signer.tufstate import Versions

RELEASES_KEPT: Final = 100
#: Requests are forgotten that long after their end, so that an answer can still say what became of one.
REQUEST_MEMORY_S: Final = 7 * 86400


@dataclass(slots=True)
class Release:
    """A base that was signed. shares: share (5, 100) -> first time it was signed so, Unix seconds."""

    sha256: str
    length: int
    shares: dict[str, float]


@dataclass(slots=True)
class Request:
    """What two operators have to approve. body: what is to be done, digest: its SHA-256; used: when it was done."""

    kind: str
    body: dict[str, Any]
    digest: str
    expires: float
    by: str
    approvals: dict[str, float] = field(default_factory=dict)
    used: float | None = None


@dataclass(slots=True)
class State:
    """desired: box -> highest version signed. held: box -> end of its isolation or quarantine as signed.

    firmware: box -> [version, number] of the last order to install that was signed for it.
    operators: name -> public key, hex. releases: version -> what was signed. buckets: kind of signature -> its bucket.
    """

    desired: dict[str, int] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    firmware: dict[str, list[str | int]] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    versions: Versions = field(default_factory=Versions)

    def apply(self, record: Record, rates: Mapping[str, Rate]) -> None:
        """Takes in one record. The same function runs when it is written and when it is read again."""
        facts: Mapping[str, Any] = record.facts
        if record.op == CHECKPOINT:
            self._restore(facts)
            return
        for kind in facts.get("takes", ()):
            if kind in rates:
                self.buckets.setdefault(kind, Bucket(rates[kind].burst, record.at)).take(rates[kind], record.at)
        if "tuf" in facts:
            self.versions = Versions(**facts["tuf"])
        if record.op == "desired":
            self._desired(facts, record.at)
        elif record.op == "publish" and facts.get("released"):
            self._released(facts["released"], record.at)
        elif record.op == "operator":
            self._operator(facts)
        elif record.op == "request":
            self._forget_requests(record.at)
            self.requests[facts["id"]] = Request(
                facts["kind"], dict(facts["body"]), record.digest, facts["expires"], record.who
            )
        elif record.op == "approve":
            self.requests[facts["id"]].approvals[record.who] = record.at
        if facts.get("approval"):
            self.requests[facts["approval"]].used = record.at

    def _desired(self, facts: Mapping[str, Any], at: float) -> None:
        box = facts["box"]
        self.desired[box] = facts["version"]
        if "firmware" in facts:
            self.firmware[box] = facts["firmware"]
        self.held = {b: until for b, until in self.held.items() if until > at}
        # An order that was signed can be kept back and played later: it counts until its end, whatever came after.
        if facts.get("held", 0) > max(at, self.held.get(box, 0)):
            self.held[box] = facts["held"]

    def _released(self, facts: Mapping[str, Any], at: float) -> None:
        release = self.releases.setdefault(facts["version"], Release(facts["sha256"], facts["length"], {}))
        release.shares.setdefault(str(facts["share"]), at)
        for version in sorted(self.releases)[:-RELEASES_KEPT]:
            del self.releases[version]

    def _operator(self, facts: Mapping[str, Any]) -> None:
        if facts["public"] is None:
            self.operators.pop(facts["name"], None)
            for request in self.requests.values():
                request.approvals.pop(facts["name"], None)
        else:
            self.operators[facts["name"]] = facts["public"]

    def _forget_requests(self, at: float) -> None:
        self.requests = {i: r for i, r in self.requests.items() if r.expires + REQUEST_MEMORY_S > at}

    def checkpoint(self) -> dict[str, Any]:
        """The whole, as JSON."""
        return {
            "desired": self.desired,
            "held": self.held,
            "firmware": self.firmware,
            "operators": self.operators,
            "requests": {i: asdict(r) for i, r in self.requests.items()},
            "releases": {str(v): asdict(r) for v, r in self.releases.items()},
            "buckets": {k: asdict(b) for k, b in self.buckets.items()},
            "versions": asdict(self.versions),
        }

    def _restore(self, facts: Mapping[str, Any]) -> None:
        self.desired = dict(facts["desired"])
        self.held = dict(facts["held"])
        # checkpoints of versions before the first firmware order have none
        self.firmware = dict(facts.get("firmware", {}))
        self.operators = dict(facts["operators"])
        self.requests = {i: Request(**r) for i, r in facts["requests"].items()}
        self.releases = {int(v): Release(**r) for v, r in facts["releases"].items()}
        self.buckets = {k: Bucket(**b) for k, b in facts["buckets"].items()}
        self.versions = Versions(**facts["versions"])
