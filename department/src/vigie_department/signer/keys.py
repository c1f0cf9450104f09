"""The ceremonies: creation of every key, and what two keyholders sign later.

What the offline keys sign travels as a `Proposal`, a JSON file that fits on a stick: made on the server, signed on a
machine without a network by one keyholder after the other, installed on the server. Where the sticks are brought to
the server instead, the same steps run in one go.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, Root, Targets

from vigie.contract import base as contract_base
from vigie.contract import dsse
from vigie.contract.trust import SteeringKeys
from vigie_department.config import Config
from vigie_department.errors import UsageError
from vigie_department.signer import metadata as tuf
from vigie_department.signer import offline, tufstate
from vigie_department.signer.errors import KeyFileError, MetadataError
from vigie_department.signer.files import make_folder, write_atomically
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.offline import Keyholder
from vigie_department.signer.repository import Repository, sha256
from vigie_department.signer.settings import OfflineLifetimes, SignerSettings
from vigie_department.signer.store import Store
from vigie_department.signer.tufstate import Days, TufState

MAX_PROPOSAL: Final = 8 << 20
LIFETIMES: Final = OfflineLifetimes()


@dataclass(frozen=True, slots=True)
class TrustFiles:
    """What goes into the boxes' image, besides the root certificates."""

    tuf_root: Path
    steering: Path


def days(settings: SignerSettings) -> Days:
    """Lifetimes of the online roles."""
    return Days(settings.timestamp_days, settings.snapshot_days, settings.base_days)


def create(config: Config, offline_dir: Path, passphrases: Sequence[str], *, now: float | None = None) -> TrustFiles:
    """The first ceremony: five offline keys in `offline_dir`, online keys and metadata in the signer's folder, the
    repository, and the trust files.

    passphrases: one per keyholder. Refuses to overwrite: KeyFileError. The caller gives the folders to their users.
    """
    store = Store(config.paths.signer)
    if (store.tuf / "timestamp.json").exists():
        raise KeyFileError(f"{store.folder}: keys exist already; `vigie-department keys` renews and replaces them")
    now = time.time() if now is None else now
    settings = settings_of(config)
    holders = offline.create(offline_dir, passphrases)
    store.make_folders()
    public = store.make_keys(store.keys)
    keyholders = [holder.public for holder in holders]
    steering = SteeringKeys.of((public["steering"],), tuple(keyholders), tuf.THRESHOLD).to_bytes()
    files = {contract_base.STEERING: steering}
    root = tuf.make_root(
        1, tuf.expiry(now, LIFETIMES.root), keyholders, timestamp=public["timestamp"], snapshot=public["snapshot"]
    )
    targets = tuf.make_targets(1, tuf.expiry(now, LIFETIMES.targets), public["base"], _listed(files))
    two = [holder.key for holder in holders[: tuf.THRESHOLD]]
    state = tufstate.first(
        tuf.sign(root, two), tuf.sign(targets, two), store.online_keys(), now, days(settings)
    )  # fmt: skip
    repository = Repository(config.paths.repository)
    for path, data in files.items():
        repository.add(path, data)
    write_atomically(store.steering_file, steering, 0o600)
    tufstate.save(store.tuf, state)
    repository.publish(state.files())
    return export_trust(store, state, config.paths.trust)


def export_trust(store: Store, state: TufState, folder: Path) -> TrustFiles:
    """Writes `tuf-root.json` (the latest root) and `steering.json`, for the image."""
    make_folder(folder, 0o755)
    found = TrustFiles(folder / "tuf-root.json", folder / "steering.json")
    write_atomically(found.tuf_root, state.roots[max(state.roots)])
    write_atomically(found.steering, store.steering().to_bytes())
    return found


def settings_of(config: Config) -> SignerSettings:
    """`[signer]` of the configuration."""
    return config.signer


@dataclass(frozen=True, slots=True)
class Proposal:
    """What keyholders are asked to sign.

    what: in words, for the one who signs. root, targets: metadata, with the signatures so far. files: content of new
    offline targets.
    """

    what: str
    root: bytes | None = None
    targets: bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file to carry: readable by people, since they answer for what they sign."""
        document = {
            "v": 1,
            "what": self.what,
            "root": None if self.root is None else json.loads(self.root),
            "targets": None if self.targets is None else json.loads(self.targets),
            "files": {path: data.hex() for path, data in self.files.items()},
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Proposal:
        """Parses a carried file. MetadataError."""
        try:
            raw: dict[str, Any] = json.loads(data)
            if raw["v"] != 1:
                raise ValueError(f"version {raw['v']}")
            root, targets = (None if raw[k] is None else json.dumps(raw[k]).encode() for k in ("root", "targets"))
            proposal = cls(str(raw["what"]), root, targets, {str(k): bytes.fromhex(v) for k, v in raw["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise MetadataError(f"not a proposal made by `vigie-department keys` ({e})") from e
        if proposal.root is None and proposal.targets is None:
            raise MetadataError("the proposal holds nothing to sign")
        return proposal

    def describe(self) -> list[str]:
        """What is signed, from the metadata itself and not from its description."""
        lines = []
        if self.root is not None:
            root = tuf.parse(Root, self.root, "root")
            lines.append(f"root.json {root.signed.version}, valid until {root.signed.expires:%Y-%m-%d}")
            for name, role in root.signed.roles.items():
                lines.append(f"  {name}: {role.threshold} of {', '.join(keyid[:8] for keyid in role.keyids)}")
        if self.targets is not None:
            targets = tuf.parse(Targets, self.targets, "targets")
            lines.append(f"targets.json {targets.signed.version}, valid until {targets.signed.expires:%Y-%m-%d}")
            lines.append(f"  base/*, policy/*: key {tuf.base_key_of(targets.signed).keyid[:8]}")
            lines += [
                f"  {path}: {info.length} bytes, {info.sha256}" for path, info in tuf.infos(targets.signed).items()
            ]
        return lines

    def signed(self, holders: Iterable[Keyholder]) -> Proposal:
        """With the signatures of these keyholders added."""
        keys = [holder.key for holder in holders]
        root = None if self.root is None else tuf.sign(tuf.parse(Root, self.root, "root"), keys)
        targets = None if self.targets is None else tuf.sign(tuf.parse(Targets, self.targets, "targets"), keys)
        return replace(self, root=root, targets=targets)


def propose_targets(
    state: TufState, now: float, add: Mapping[str, bytes], remove: Iterable[str] = (), what: str = ""
) -> Proposal:
    """targets.json with files added (path -> content) and removed; also how its life is prolonged."""
    current = tuf.parse(Targets, state.targets, "targets.json").signed
    listed = {**state.offline_files(), **_listed(add)}
    for path in remove:
        if listed.pop(path, None) is None:
            raise UsageError(f"{path}: targets.json does not list it")
    key = tuf.base_key_of(current)
    new = tuf.make_targets(
        current.version + 1, tuf.expiry(now, LIFETIMES.targets), bytes.fromhex(key.keyval["public"]), listed
    )
    return Proposal(what or "targets.json: " + (", ".join(add) or "renewal"), targets=new.to_bytes(), files=dict(add))


def propose_root(
    state: TufState,
    store_steering: SteeringKeys,
    now: float,
    *,
    online: Mapping[str, bytes] | None = None,
    keyholders: Mapping[int, bytes] | None = None,
) -> Proposal:
    """root.json and targets.json of the next versions.

    online: new public keys by role (rotation); keyholders: number -> new public key of one who lost theirs. None of
    both: the same keys for longer. Whoever is replaced, two of the former five have to sign too.
    """
    root = state.root.signed
    old = [bytes.fromhex(root.keys[keyid].keyval["public"]) for keyid in root.roles["root"].keyids]
    new = list(old)
    for number, public in (keyholders or {}).items():
        if not 1 <= number <= tuf.KEYHOLDERS:
            raise UsageError(f"keyholder {number}: they are numbered 1 to {tuf.KEYHOLDERS}")
        new[number - 1] = public

    def current(role: str) -> bytes:
        return bytes.fromhex(root.keys[root.roles[role].keyids[0]].keyval["public"])

    targets = tuf.parse(Targets, state.targets, "targets.json").signed
    online = online or {
        "timestamp": current("timestamp"),
        "snapshot": current("snapshot"),
        "base": bytes.fromhex(tuf.base_key_of(targets).keyval["public"]),
        "steering": next(iter(store_steering.online.values())),
    }
    steering = SteeringKeys.of((online["steering"],), tuple(new), tuf.THRESHOLD).to_bytes()
    files = {contract_base.STEERING: steering}
    new_root: Metadata[Root] = tuf.make_root(
        root.version + 1, tuf.expiry(now, LIFETIMES.root), new,
        timestamp=online["timestamp"], snapshot=online["snapshot"],
    )  # fmt: skip
    new_targets = tuf.make_targets(
        targets.version + 1, tuf.expiry(now, LIFETIMES.targets), online["base"],
        {**state.offline_files(), **_listed(files)},
    )  # fmt: skip
    return Proposal("root.json and targets.json", new_root.to_bytes(), new_targets.to_bytes(), files)


def override_envelope(version: int, sha256_hex: str, holders: Iterable[Keyholder]) -> bytes:
    """`override/base-<version>.json`: boxes take this very file whatever their limits say."""
    payload = contract_base.Override(version, sha256_hex).to_bytes()
    return dsse.sign(payload, contract_base.OVERRIDE_TYPE, *(holder.key for holder in holders)).to_bytes()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file of any size, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise UsageError(f"{path}: cannot be read ({e.strerror or e})") from e


def check_numbers(root: Root, holders: Iterable[Keyholder]) -> None:
    """KeyFileError when a stick is not one of the root's."""
    known = set(root.roles["root"].keyids)
    for holder in holders:
        if tuf.tuf_key(holder.public).keyid not in known:
            raise KeyFileError(f"keyholder-{holder.number}.pem is not one of the five keys of root.json")


def _listed(files: Mapping[str, bytes]) -> dict[str, TargetInfo]:
    return {path: TargetInfo(len(data), sha256(data)) for path, data in files.items()}
