"""Putting in force what keyholders signed: checked, then done in steps that a crash cannot leave half way.

`incoming.json` holds the proposal from the decision until the end; a start that finds one finishes the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root, Targets

from vigie.contract.base import STEERING
from vigie.contract.errors import ContractError
from vigie.contract.trust import SteeringKeys
from vigie_department.signer import metadata as tuf
from vigie_department.signer import tufstate
from vigie_department.signer.errors import MetadataError
from vigie_department.signer.files import read_bounded, sync_folder, write_atomically
from vigie_department.signer.keys import MAX_PROPOSAL, Proposal
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.repository import sha256
from vigie_department.signer.store import Store
from vigie_department.signer.tufstate import Days, TufState


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked proposal: roots by version, targets.json, and the steering.json that it brings, if it does."""

    roots: Mapping[int, bytes]
    targets: bytes
    targets_version: int
    steering: bytes | None

    def offline_files(self) -> dict[str, TargetInfo]:
        """What targets.json lists."""
        return tuf.infos(tuf.parse(Targets, self.targets, "targets.json").signed)


class Ceremony:
    """The steps, in the signer's folder."""

    def __init__(self, store: Store, days: Days) -> None:
        self._store = store
        self._days = days

    @property
    def _incoming(self) -> Path:
        return self._store.folder / "incoming.json"

    def prepare(self, state: TufState, data: bytes) -> Prepared:
        """Checks everything that boxes check, and that the keys named are there. MetadataError."""
        proposal = Proposal.from_bytes(data)
        current = state.root
        roots = dict(state.roots)
        root = current
        if proposal.root is not None:
            root = tuf.check_new_root(current, proposal.root)
            roots[root.signed.version] = proposal.root
        targets_data = proposal.targets if proposal.targets is not None else state.targets
        targets = tuf.check_targets(root, targets_data)
        before = tuf.parse(Targets, state.targets, "targets.json").signed.version
        if proposal.targets is not None and targets.signed.version != before + 1:
            raise MetadataError(f"targets.json: version {targets.signed.version} where {before + 1} is expected")
        timestamp = root.signed.roles["timestamp"].keyids[0]
        tufstate.check_keys(root, targets, self._store.online_keys(coming=self._store.is_next(timestamp)))
        return Prepared(roots, targets_data, targets.signed.version, self._steering(proposal, targets.signed))

    def _steering(self, proposal: Proposal, targets: Targets) -> bytes | None:
        data = proposal.files.get(STEERING)
        if data is None:
            return None
        listed = targets.targets.get(STEERING)
        if listed is None or listed.hashes["sha256"] != sha256(data):
            raise MetadataError(f"{STEERING}: targets.json lists another content")
        try:
            SteeringKeys.from_bytes(data)
        except ContractError as e:
            raise MetadataError(f"{STEERING}: {e}") from e
        return data

    def begin(self, data: bytes) -> None:
        """From here on it will be finished, whatever happens."""
        write_atomically(self._incoming, data, 0o600)

    def finish(self, now: float) -> TufState:
        """The metadata in force, with a ceremony that was begun carried to its end first."""
        state = self._store.load_tuf()
        if not self._incoming.exists():
            return state
        proposal = read_bounded(self._incoming, MAX_PROPOSAL)
        parsed = Proposal.from_bytes(proposal)
        done = parsed.targets is not None and parsed.targets == state.targets
        done = done or (parsed.targets is None and parsed.root in state.roots.values())
        if not done:
            prepared = self.prepare(state, proposal)
            root = tuf.parse(Root, prepared.roots[max(prepared.roots)], "root.json").signed
            self._store.adopt_next_keys(root.roles["timestamp"].keyids[0])
            if prepared.steering is not None:
                write_atomically(self._store.steering_file, prepared.steering, 0o600)
            state = tufstate.resigned(
                state, self._store.online_keys(), now, self._days, state.versions, prepared.roots, prepared.targets
            )
            tufstate.save(self._store.tuf, state)
        self._incoming.unlink()
        sync_folder(self._store.folder)
        return state
