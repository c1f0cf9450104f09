"""A TUF repository in memory, signed as the department signs, that can also be made to lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from tests.unit.base_delta.bases import opened
from vigie.contract.base import CURRENT, Delta, Descriptor, File, base_path, delta_path
from vigie.filter.base.basefile import pack_base
from vigie.filter.base.deltaformat import pack_delta
from vigie.filter.base.filedelta import make_file_delta
from vigie.filter.base.model import Base

NOW = 1_790_000_000.0
DAY = 86_400.0
HOLDERS = 5
THRESHOLD = 2
LIFE = {"root": 400 * DAY, "targets": 400 * DAY, "base": 30 * DAY, "snapshot": 7 * DAY, "timestamp": 2 * DAY}


def fresh(count: int) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def moment(unix: float) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)


@dataclass
class Simulator:
    """`files`: path below /tuf/ -> bytes, what a web server would have. `publish` signs everything anew."""

    now: float = NOW
    files: dict[str, bytes] = field(default_factory=dict)
    root_keys: list[CryptoSigner] = field(
        default_factory=lambda: [CryptoSigner.generate_ed25519() for _ in range(HOLDERS)]
    )
    offline: list[CryptoSigner] = field(
        default_factory=lambda: [CryptoSigner.generate_ed25519() for _ in range(HOLDERS)]
    )
    online: dict[str, CryptoSigner] = field(
        default_factory=lambda: {n: CryptoSigner.generate_ed25519() for n in ("timestamp", "snapshot", "base")}
    )
    versions: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("root", "targets", "base", "snapshot", "timestamp"), 0)
    )
    base_targets: dict[str, bytes] = field(default_factory=dict)
    offline_targets: dict[str, bytes] = field(default_factory=dict)
    bases: dict[int, bytes] = field(default_factory=dict)
    signers: int = THRESHOLD  # of the offline roles
    life: dict[str, float] = field(default_factory=lambda: dict(LIFE))

    def expires(self, role: str) -> datetime:
        return moment(self.now + self.life[role])

    def next(self, role: str) -> int:
        self.versions[role] += 1
        return self.versions[role]

    # -- signing

    def signed(self, content: Signed, signers: Iterable[CryptoSigner]) -> bytes:
        metadata = Metadata(content)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def renew_root(self, signers: Iterable[CryptoSigner] | None = None) -> bytes:
        root = Root(self.next("root"), expires=self.expires("root"), consistent_snapshot=True)
        for role, keys, threshold in (
            ("root", self.root_keys, THRESHOLD),
            ("targets", self.offline, THRESHOLD),
            ("snapshot", [self.online["snapshot"]], 1),
            ("timestamp", [self.online["timestamp"]], 1),
        ):
            for key in keys:
                root.add_key(key.public_key, role)
            root.roles[role].threshold = threshold
        chosen = list(signers) if signers is not None else self.root_keys[:THRESHOLD]
        data = self.signed(root, chosen)
        self.files[f"metadata/{root.version}.root.json"] = data
        return data

    def renew_targets(self) -> None:
        key: Key = self.online["base"].public_key
        role = DelegatedRole("base", [key.keyid], 1, True, paths=["base/*", "policy/*"])
        targets = Targets(
            self.next("targets"), expires=self.expires("targets"), targets=self.listed(self.offline_targets),
            delegations=Delegations({key.keyid: key}, {"base": role}),
        )  # fmt: skip
        self.files[f"metadata/{targets.version}.targets.json"] = self.signed(targets, self.offline[: self.signers])

    def renew_base(self) -> None:
        base = Targets(self.next("base"), expires=self.expires("base"), targets=self.listed(self.base_targets))
        self.files[f"metadata/{base.version}.base.json"] = self.signed(base, [self.online["base"]])

    def refresh(self) -> None:
        """Snapshot and timestamp over what there is."""
        meta = {f"{role}.json": MetaFile(self.versions[role]) for role in ("targets", "base")}
        snapshot = Snapshot(self.next("snapshot"), expires=self.expires("snapshot"), meta=meta)
        self.files[f"metadata/{snapshot.version}.snapshot.json"] = self.signed(snapshot, [self.online["snapshot"]])
        timestamp = Timestamp(
            self.next("timestamp"), expires=self.expires("timestamp"), snapshot_meta=MetaFile(snapshot.version)
        )
        self.files["metadata/timestamp.json"] = self.signed(timestamp, [self.online["timestamp"]])

    def listed(self, contents: dict[str, bytes]) -> dict[str, TargetFile]:
        for path, data in contents.items():
            self.files[self.place(path, data)] = data
        return {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in contents.items()}

    def place(self, path: str, data: bytes) -> str:
        folder, _, name = path.rpartition("/")
        return f"targets/{folder}/{hashlib.sha256(data).hexdigest()}.{name}"

    def publish(self) -> None:
        if not self.versions["root"]:
            self.renew_root()
        self.renew_targets()
        self.renew_base()
        self.refresh()

    # -- bases

    def add(self, base: Base | bytes, version: int = 0) -> File:
        data = pack_base(base) if isinstance(base, Base) else base
        version = base.serial if isinstance(base, Base) else version
        self.bases[version] = data
        self.base_targets[base_path(version)] = data
        return File(version, base_path(version), hashlib.sha256(data).hexdigest(), len(data))

    def add_delta(self, old: int, new: int, data: bytes | None = None) -> Delta:
        if data is None:
            data = pack_delta(make_file_delta(opened(self.bases[old]), opened(self.bases[new])))
        self.base_targets[delta_path(old, new)] = data
        return Delta(old, new, delta_path(old, new), hashlib.sha256(data).hexdigest(), len(data))

    def release(self, released: File, *deltas: Delta, **more: object) -> None:
        """A descriptor, for everybody unless said otherwise, and all metadata."""
        descriptor = Descriptor(released, 100, int(self.now), None, None, tuple(deltas))
        self.base_targets[CURRENT] = replace(descriptor, **more).to_bytes()  # type: ignore[arg-type]
        self.publish()

    def copy(self) -> dict[str, bytes]:
        return dict(self.files)

    def trust(self, folder: Path) -> None:
        """The initial root of a box."""
        if not self.versions["root"]:
            self.renew_root()
        (folder / "tuf-root.json").write_bytes(self.files["metadata/1.root.json"])

    def later(self, seconds: float) -> None:
        self.now += seconds
