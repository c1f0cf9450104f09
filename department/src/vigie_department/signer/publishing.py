"""`tuf-publish` read and judged: which files, what the descriptor changes, and why it may go to all at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vigie.contract.base import CURRENT, DESCRIPTOR_MAX, Descriptor, base_path
from vigie.contract.fields import Fields
from vigie_department.signer import rules
from vigie_department.signer.content import check_same_content
from vigie_department.signer.errors import NeedsApproval, RuleError
from vigie_department.signer.log import canonical
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.params import read_target, text_of
from vigie_department.signer.repository import Repository
from vigie_department.signer.rules import EMERGENCY_BASE, Step
from vigie_department.signer.state import State


@dataclass(frozen=True, slots=True)
class Publication:
    """What the publisher asks. approval: id of a request, "" = none; revert: the version whose content it is."""

    operator: str
    changed: Mapping[str, TargetInfo]
    removed: tuple[str, ...]
    descriptor: bytes | None
    approval: str
    revert: int | None

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Publication:
        """From the request; MessageError names the field."""
        f = Fields("tuf-publish", dict(params))
        given = f.take("targets")
        if not isinstance(given, dict):
            f.fail("targets", "an object is expected")
        emergency = f.has("emergency") and f.boolean("emergency")
        approval = text_of(f, "approval") if f.has("approval") else ""
        found = cls(
            operator=text_of(f, "operator"),
            changed={path: read_target(path, value) for path, value in given.items()},
            removed=f.texts("remove", 1000, 100) if f.has("remove") else (),
            descriptor=f.text("descriptor", DESCRIPTOR_MAX).encode() if f.has("descriptor") else None,
            approval=approval if emergency else "",
            revert=f.integer("revert", 1) if f.has("revert") else None,
        )
        for name in ("remove", "descriptor", "approval", "revert", "emergency"):
            f.skip(name)
        f.done()
        return found

    def listed(self, before: Mapping[str, TargetInfo]) -> dict[str, TargetInfo]:
        """All files of the online role afterwards."""
        after = {**before, **self.changed}
        for path in self.removed:
            after.pop(path, None)
        return after

    def step(self, state: State, before: Mapping[str, TargetInfo], *, wave_s: float, now: float) -> Step | None:
        """What the descriptor changes; None when it stays as it is. RuleError."""
        after = self.listed(before)
        if CURRENT not in self.changed:
            if self.descriptor is not None:
                raise RuleError(f"a descriptor is given, but {CURRENT} is not among the targets")
            _check_unchanged(before, after)
            return None
        if CURRENT in self.removed:
            raise RuleError(f"{CURRENT} cannot be removed")
        given, data = after[CURRENT], self.descriptor
        if data is None or (len(data), hashlib.sha256(data).hexdigest()) != (given.length, given.sha256):
            raise RuleError(f"{CURRENT}: `descriptor` has to be its content, so that the signer sees what it signs")
        return rules.check_descriptor(state, Descriptor.from_bytes(data), after, wave_s=wave_s, now=now)

    def excuse(self, state: State, step: Step, repository: Repository, *, wave_s: float, now: float) -> dict[str, Any]:
        """Facts for the log: why a base may go to all boxes without having been in a wave. RuleError, NeedsApproval."""
        if self.revert is not None:
            old = state.releases.get(self.revert)
            if old is None or str(rules.ALL) not in old.shares:
                raise RuleError(f"base {self.revert} was never released to all: there is nothing to go back to")
            check_same_content(
                repository.path_of(base_path(self.revert), old.sha256), old.sha256,
                repository.path_of(base_path(step.version), step.sha256), step.sha256,
            )  # fmt: skip
            return {"revert": self.revert}
        if not self.approval:
            raise NeedsApproval(
                f"base {step.version} to all boxes before {wave_s / 3600:g} h with a part of them: "
                "two operators have to approve it"
            )
        digest = hashlib.sha256(canonical(rules.emergency_body(step.version, step.sha256))).hexdigest()
        rules.check_approved(state, self.approval, EMERGENCY_BASE, digest, now)
        return {"approval": self.approval}


def _check_unchanged(before: Mapping[str, TargetInfo], after: Mapping[str, TargetInfo]) -> None:
    """Files of the base stay as they are while nobody shows a new descriptor."""
    for path in sorted(before.keys() | after.keys()):
        if path.startswith("base/") and before.get(path) != after.get(path):
            raise RuleError(f"{path}: files of the base change together with {CURRENT}")
