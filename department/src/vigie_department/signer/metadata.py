"""TUF metadata (specification 1.0.31): what each role says, made and checked. No file, no key on disk.

    root      2 of 5 offline keys      who may sign what; N.root.json
    targets   2 of 5 offline keys      override/*, keys/*, firmware/*, and the delegation to `base`
    base      online                   base/*, policy/*
    snapshot  online                   versions of targets and base
    timestamp online                   version of snapshot, short-lived

Versions of the online roles are max(previous + 1, Unix seconds): a signer put back from an old backup does not fall
behind what boxes have seen, which they would refuse as a rollback. Offline roles count 1, 2, 3 as TUF wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from vigie_department.signer.errors import MetadataError

THRESHOLD: Final = 2
KEYHOLDERS: Final = 5
BASE_ROLE: Final = "base"
ONLINE_PATHS: Final = ("base/*", "policy/*")
OFFLINE_PREFIXES: Final = ("override/", "keys/", "firmware/")
MAX_METADATA: Final = 4 << 20
_Signed = TypeVar("_Signed", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """A target file: bytes, and SHA-256 in hex. custom: anything, told to clients with it."""

    length: int
    sha256: str
    custom: Mapping[str, Any] | None = None


def tuf_key(public: bytes) -> SSlibKey:
    """The key of 32 bytes as TUF writes it; its id is a digest of it."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))


def next_version(previous: int, now: float) -> int:
    """Version of an online role."""
    return max(previous + 1, int(now))


def expiry(now: float, days: float) -> datetime:
    """A moment as TUF keeps it: UTC, whole seconds."""
    return datetime.fromtimestamp(int(now), UTC) + timedelta(seconds=int(days * 86400))


def make_root(
    version: int, expires: datetime, keyholders: Sequence[bytes], *, timestamp: bytes, snapshot: bytes
) -> Metadata[Root]:
    """Unsigned root. Every key is 32 bytes; the keyholders serve root and targets."""
    if len(set(keyholders)) != KEYHOLDERS:
        raise MetadataError(f"{len(set(keyholders))} different keyholders where {KEYHOLDERS} are needed")
    offline = [tuf_key(public) for public in keyholders]
    online = {"timestamp": tuf_key(timestamp), "snapshot": tuf_key(snapshot)}
    ids = [key.keyid for key in offline]
    roles = {
        "root": Role(ids, THRESHOLD),
        "targets": Role(ids, THRESHOLD),
        **{name: Role([key.keyid], 1) for name, key in online.items()},
    }
    keys: dict[str, Key] = {key.keyid: key for key in [*offline, *online.values()]}
    return Metadata(Root(version=version, expires=expires, keys=keys, roles=roles, consistent_snapshot=True))


def make_targets(
    version: int, expires: datetime, base_key: bytes, files: Mapping[str, TargetInfo]
) -> Metadata[Targets]:
    """Unsigned targets: the offline files, and the delegation to the online role `base`."""
    for path in files:
        if not path.startswith(OFFLINE_PREFIXES):
            raise MetadataError(f"{path}: the offline keys sign {', '.join(OFFLINE_PREFIXES)} and nothing else")
    key = tuf_key(base_key)
    role = DelegatedRole(BASE_ROLE, [key.keyid], 1, terminating=True, paths=list(ONLINE_PATHS))
    return Metadata(
        Targets(
            version=version, expires=expires, targets=_target_files(files),
            delegations=Delegations({key.keyid: key}, {BASE_ROLE: role}),
        )
    )  # fmt: skip


def make_base(version: int, expires: datetime, files: Mapping[str, TargetInfo]) -> Metadata[Targets]:
    """Unsigned `base` role."""
    for path in files:
        folder, _, name = path.partition("/")
        if folder not in ("base", "policy") or not name or "/" in name or name.startswith("."):
            raise MetadataError(f"{path}: the online key signs base/NAME and policy/NAME and nothing else")
    return Metadata(Targets(version=version, expires=expires, targets=_target_files(files)))


def make_snapshot(version: int, expires: datetime, targets: int, base: int) -> Metadata[Snapshot]:
    """Unsigned snapshot: the versions of targets.json and base.json."""
    meta = {"targets.json": MetaFile(targets), f"{BASE_ROLE}.json": MetaFile(base)}
    return Metadata(Snapshot(version=version, expires=expires, meta=meta))


def make_timestamp(version: int, expires: datetime, snapshot: bytes, snapshot_version: int) -> Metadata[Timestamp]:
    """Unsigned timestamp over the bytes of a signed snapshot."""
    meta = MetaFile.from_data(snapshot_version, snapshot, ["sha256"])
    return Metadata(Timestamp(version=version, expires=expires, snapshot_meta=meta))


def _target_files(files: Mapping[str, TargetInfo]) -> dict[str, TargetFile]:
    found = {}
    for path, info in sorted(files.items()):
        extra = {"custom": dict(info.custom)} if info.custom is not None else {}
        found[path] = TargetFile(info.length, {"sha256": info.sha256}, path, extra)
    return found


def sign(metadata: Metadata[_Signed], keys: Iterable[Ed25519PrivateKey]) -> bytes:
    """The file, signed by every key, in addition to the signatures it has."""
    for key in keys:
        metadata.sign(CryptoSigner(key), append=True)
    return metadata.to_bytes()


def parse(kind: type[_Signed], data: bytes, what: str) -> Metadata[_Signed]:
    """Metadata of this kind from bytes, signatures unchecked. MetadataError otherwise."""
    if len(data) > MAX_METADATA:
        raise MetadataError(f"{what}: {len(data)} bytes, at most {MAX_METADATA}")
    try:
        metadata: Metadata[_Signed] = Metadata.from_bytes(data)
    except RepositoryError as e:
        raise MetadataError(f"{what}: not TUF metadata ({e})") from e
    if not isinstance(metadata.signed, kind):
        raise MetadataError(f"{what}: {metadata.signed.type} metadata where {kind.type} is expected")
    return metadata


def check_new_root(old: Metadata[Root], data: bytes) -> Metadata[Root]:
    """A root that clients at `old` accept (TUF 5.3.4-5): next version, signed by the threshold of both."""
    new = parse(Root, data, "root.json")
    if new.signed.version != old.signed.version + 1:
        raise MetadataError(f"root.json: version {new.signed.version} where {old.signed.version + 1} is expected")
    for who, judge in (("the old", old), ("its own", new)):
        result = judge.signed.get_verification_result("root", new.signed_bytes, new.signatures)
        if not result:
            raise MetadataError(
                f"root.json: signed by {len(result.signed)} of {who} keyholders, {result.threshold} are needed"
            )
    return new


def check_targets(root: Metadata[Root], data: bytes) -> Metadata[Targets]:
    """A targets file that `root` vouches for and that delegates to `base` as boxes expect."""
    new = parse(Targets, data, "targets.json")
    result = root.signed.get_verification_result("targets", new.signed_bytes, new.signatures)
    if not result:
        raise MetadataError(f"targets.json: signed by {len(result.signed)} keyholders, {result.threshold} are needed")
    delegations = new.signed.delegations
    role = delegations.roles.get(BASE_ROLE) if delegations is not None and delegations.roles else None
    if role is None or tuple(role.paths or ()) != ONLINE_PATHS or len(role.keyids) != 1:
        raise MetadataError(f"targets.json: does not delegate {', '.join(ONLINE_PATHS)} to one key as `{BASE_ROLE}`")
    return new


def base_key_of(targets: Targets) -> SSlibKey:
    """The key of the delegated role."""
    delegations = targets.delegations
    if delegations is None or not delegations.roles or BASE_ROLE not in delegations.roles:
        raise MetadataError(f"targets.json: no delegation to `{BASE_ROLE}`")
    key = delegations.keys[delegations.roles[BASE_ROLE].keyids[0]]
    if not isinstance(key, SSlibKey):
        raise MetadataError(f"targets.json: the key of `{BASE_ROLE}` is of an unknown kind")
    return key


def infos(targets: Targets) -> dict[str, TargetInfo]:
    """The files that a targets role lists."""
    return {path: TargetInfo(t.length, t.hashes["sha256"], t.custom) for path, t in targets.targets.items()}
