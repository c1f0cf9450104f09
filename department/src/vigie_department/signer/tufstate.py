"""The TUF metadata in force, as the signer keeps it and as the repository serves it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from vigie.contract.dsse import public_bytes
from vigie_department.signer import metadata as tuf
from vigie_department.signer.errors import MetadataError
from vigie_department.signer.files import read_bounded, write_atomically
from vigie_department.signer.metadata import BASE_ROLE, MAX_METADATA, TargetInfo

log = logging.getLogger("vigie.signer")


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """Keys of the online roles."""

    timestamp: Ed25519PrivateKey
    snapshot: Ed25519PrivateKey
    base: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Days:
    """Lifetimes of what the online keys sign."""

    timestamp: float
    snapshot: float
    base: float


@dataclass(frozen=True, slots=True)
class Versions:
    """Highest versions ever signed, which may be above those of the files after a crash."""

    timestamp: int = 0
    snapshot: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class TufState:
    """roots: every version of root.json, by version; the others as bytes with their parsed form beside them."""

    roots: Mapping[int, bytes]
    targets: bytes
    base: bytes
    snapshot: bytes
    timestamp: bytes

    @property
    def root(self) -> Metadata[Root]:
        """The latest root."""
        return tuf.parse(Root, self.roots[max(self.roots)], "root.json")

    @property
    def versions(self) -> Versions:
        """Of the online roles, in the files."""
        return Versions(
            tuf.parse(Timestamp, self.timestamp, "timestamp.json").signed.version,
            tuf.parse(Snapshot, self.snapshot, "snapshot.json").signed.version,
            tuf.parse(Targets, self.base, "base.json").signed.version,
        )

    def files(self) -> dict[str, bytes]:
        """As the repository serves them (consistent snapshot); timestamp.json is last, which is when clients see it."""
        found = {f"{version}.root.json": data for version, data in sorted(self.roots.items())}
        for name, kind, data in (
            ("targets", Targets, self.targets),
            (BASE_ROLE, Targets, self.base),
        ):
            found[f"{tuf.parse(kind, data, name).signed.version}.{name}.json"] = data
        found[f"{tuf.parse(Snapshot, self.snapshot, 'snapshot.json').signed.version}.snapshot.json"] = self.snapshot
        found["timestamp.json"] = self.timestamp
        return found

    def base_files(self) -> dict[str, TargetInfo]:
        """What the online role lists."""
        return tuf.infos(tuf.parse(Targets, self.base, "base.json").signed)

    def offline_files(self) -> dict[str, TargetInfo]:
        """What the offline role lists."""
        return tuf.infos(tuf.parse(Targets, self.targets, "targets.json").signed)

    def expires(self) -> dict[str, datetime]:
        """When each role expires."""
        signed: dict[str, Signed] = {
            "root": self.root.signed,
            "targets": tuf.parse(Targets, self.targets, "targets.json").signed,
            BASE_ROLE: tuf.parse(Targets, self.base, "base.json").signed,
            "snapshot": tuf.parse(Snapshot, self.snapshot, "snapshot.json").signed,
            "timestamp": tuf.parse(Timestamp, self.timestamp, "timestamp.json").signed,
        }
        return {name: one.expires for name, one in signed.items()}


def check_keys(root: Metadata[Root], targets: Metadata[Targets], keys: OnlineKeys) -> None:
    """MetadataError when boxes would not accept what these keys sign."""
    for name, key in (("timestamp", keys.timestamp), ("snapshot", keys.snapshot)):
        if root.signed.roles[name].keyids != [tuf.tuf_key(public_bytes(key)).keyid]:
            raise MetadataError(f"root.json names another key for {name} than the signer has")
    if tuf.base_key_of(targets.signed).keyid != tuf.tuf_key(public_bytes(keys.base)).keyid:
        raise MetadataError(f"targets.json names another key for `{BASE_ROLE}` than the signer has")


def first(root: bytes, targets: bytes, keys: OnlineKeys, now: float, days: Days) -> TufState:
    """The state after the first ceremony: no base yet."""
    empty = TufState({1: root}, targets, b"", b"", b"")
    return _signed(empty, keys, now, days, Versions(), {})


def advance(
    state: TufState, keys: OnlineKeys, now: float, days: Days, floor: Versions, files: Mapping[str, TargetInfo] | None
) -> TufState:
    """The next state. files: what the online role lists from now on; None: only what is about to expire is renewed.

    A role is renewed when half of its life is over; the timestamp always.
    """
    half = {"base": days.base / 2, "snapshot": days.snapshot / 2}
    expires = state.expires()
    base_due = expires[BASE_ROLE] - datetime.fromtimestamp(now, UTC) < timedelta(days=half["base"])
    if files is None and base_due:
        files = state.base_files()
    snapshot_due = expires["snapshot"] - datetime.fromtimestamp(now, UTC) < timedelta(days=half["snapshot"])
    if files is None and not snapshot_due:
        return _timestamped(state, keys, now, days, floor)
    return _signed(state, keys, now, days, floor, files)


def resigned(
    state: TufState,
    keys: OnlineKeys,
    now: float,
    days: Days,
    floor: Versions,
    roots: Mapping[int, bytes],
    targets: bytes,
) -> TufState:
    """The next state after a ceremony: everything online signed again, with the keys that it names."""
    changed = replace(state, roots=dict(roots), targets=targets)
    return _signed(changed, keys, now, days, floor, state.base_files())


def _signed(
    state: TufState, keys: OnlineKeys, now: float, days: Days, floor: Versions, files: Mapping[str, TargetInfo] | None
) -> TufState:
    base = state.base
    if files is not None:
        version = tuf.next_version(floor.base, now)
        base = tuf.sign(tuf.make_base(version, tuf.expiry(now, days.base), files), [keys.base])
        if len(base) > MAX_METADATA:
            raise MetadataError(
                f"{len(files)} target files make metadata of more than {MAX_METADATA} bytes; remove some"
            )
    snapshot = tuf.sign(
        tuf.make_snapshot(
            tuf.next_version(floor.snapshot, now), tuf.expiry(now, days.snapshot),
            tuf.parse(Targets, state.targets, "targets.json").signed.version,
            tuf.parse(Targets, base, "base.json").signed.version,
        ),
        [keys.snapshot],
    )  # fmt: skip
    return _timestamped(replace(state, base=base, snapshot=snapshot), keys, now, days, floor)


def _timestamped(state: TufState, keys: OnlineKeys, now: float, days: Days, floor: Versions) -> TufState:
    snapshot = tuf.parse(Snapshot, state.snapshot, "snapshot.json").signed
    new = tuf.make_timestamp(
        tuf.next_version(floor.timestamp, now), tuf.expiry(now, days.timestamp), state.snapshot, snapshot.version
    )
    return replace(state, timestamp=tuf.sign(new, [keys.timestamp]))


def save(folder: Path, state: TufState) -> None:
    """Writes the files as served, then removes what they replace; a crash leaves the former state or the new one."""
    files = state.files()
    for name, data in files.items():
        path = folder / name
        if not path.exists() or name == "timestamp.json":
            write_atomically(path, data)
    for path in folder.glob("*.json"):
        if path.name not in files:
            path.unlink()


def load(folder: Path) -> TufState:
    """The state that `timestamp.json` leads to. MetadataError or FileError when a file is missing or does not fit."""
    roots = [path.name for path in folder.glob("*.root.json")]
    return _collect(lambda name: read_bounded(folder / name, MAX_METADATA), roots, str(folder))


def from_files(files: Mapping[str, bytes]) -> TufState:
    """The state of files as served. MetadataError."""

    def read(name: str) -> bytes:
        if name not in files:
            raise MetadataError(f"{name} is missing")
        return files[name]

    return _collect(read, [name for name in files if name.endswith(".root.json")], "metadata")


def _collect(read: Callable[[str], bytes], roots: Iterable[str], where: str) -> TufState:
    stamp = read("timestamp.json")
    meta = tuf.parse(Timestamp, stamp, "timestamp.json").signed.snapshot_meta
    snapshot = read(f"{meta.version}.snapshot.json")
    versions = tuf.parse(Snapshot, snapshot, f"{meta.version}.snapshot.json").signed.meta
    found = {int(number): read(name) for name in roots if (number := name.split(".", 1)[0]).isdigit()}
    if not found:
        raise MetadataError(f"{where}: no root.json; `vigie-department init` makes the first one")
    return TufState(
        found,
        read(f"{versions['targets.json'].version}.targets.json"),
        read(f"{versions[f'{BASE_ROLE}.json'].version}.{BASE_ROLE}.json"),
        snapshot,
        stamp,
    )
