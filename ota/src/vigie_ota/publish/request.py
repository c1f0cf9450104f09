"""What is carried to the keyholders and back, by USB: a request, and one small file of signatures from each.

The request holds what is in force besides what is proposed, so that the machine without a network shows the difference
by itself and refuses what a stolen server might slip in: another key for the online role, a changed target, a release
below the last one. A signature is bound to the exact metadata; it may as well come from a key in hardware.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Root, Targets

from vigie.contract.errors import MessageError
from vigie.contract.firmware import FOLDER, FirmwareDescriptor, firmware_path
from vigie_department.errors import DepartmentError
from vigie_department.signer import keys, metadata
from vigie_department.signer.keys import Proposal
from vigie_department.signer.offline import Keyholder
from vigie_department.signer.tufstate import TufState
from vigie_ota.errors import CeremonyError, ReleaseError
from vigie_ota.publish.descriptor import check_follows

REQUEST_MAX: Final = 16 << 20
SIGNATURES_MAX: Final = 64 * 1024
_PREFIX: Final = f"{FOLDER}/"


@dataclass(frozen=True, slots=True)
class Request:
    """root, targets: metadata in force. published: descriptors in force, path -> content. proposal: what comes."""

    root: bytes
    targets: bytes
    published: Mapping[str, bytes]
    proposal: Proposal

    def to_bytes(self) -> bytes:
        """The file: text, since people answer for what they sign."""
        document = {
            "v": 1,
            "root": json.loads(self.root),
            "targets": json.loads(self.targets),
            "published": {path: data.hex() for path, data in sorted(self.published.items())},
            "proposal": json.loads(self.proposal.to_bytes()),
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """Parses; CeremonyError. Nothing in it is believed before `judge`."""
        try:
            raw: dict[str, Any] = json.loads(data)
            if raw["v"] != 1:
                raise ValueError(f"version {raw['v']}")
            return cls(
                json.dumps(raw["root"]).encode(),
                json.dumps(raw["targets"]).encode(),
                {str(path): bytes.fromhex(text) for path, text in raw["published"].items()},
                Proposal.from_bytes(json.dumps(raw["proposal"]).encode()),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DepartmentError) as e:
            raise CeremonyError(f"not a request made by `vigie-ota sign request` ({e})") from e


@dataclass(frozen=True, slots=True)
class Judged:
    """A request that holds together: the metadata to sign, the releases that it adds, the paths that it withdraws."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    added: tuple[FirmwareDescriptor, ...]
    removed: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what is signed."""
        return hashlib.sha256(self.targets.signed_bytes).hexdigest()

    def describe(self) -> list[str]:
        """For the one who signs, from the metadata itself."""
        signed = self.targets.signed
        lines = [f"targets.json {signed.version}, valid until {signed.expires:%Y-%m-%d}, digest {self.digest}"]
        for one in self.added:
            earliest = f"{datetime.fromtimestamp(one.earliest, UTC):%Y-%m-%d %H:%M} UTC" if one.earliest else "at once"
            lines.append(f"NEW release {one.version}: {one.severity.value}, from {earliest}")
            lines.append(f"  floor {one.floor}, requires {one.requires or 'any version'}")
            for board, bundle in one.bundles.items():
                lines.append(f"  {board}: {bundle.length} bytes, manifest {bundle.manifest}")
            lines += [f"  fr: {one.note_fr}", f"  en: {one.note_en}"]
        lines += [f"WITHDRAWN: {path}" for path in self.removed]
        lines.append("unchanged: keys, online role, every other target")
        return lines


def make(
    state: TufState,
    published: Mapping[str, bytes],
    *,
    add: Sequence[FirmwareDescriptor] = (),
    remove: Iterable[str] = (),
    now: float | None = None,
) -> Request:
    """The request for these releases, on what is in force. CeremonyError, ReleaseError."""
    files = {firmware_path(one.version): one.to_bytes() for one in add}
    what = "release " + ", ".join(str(one.version) for one in add)
    proposal = keys.propose_targets(state, time.time() if now is None else now, files, remove, what)
    request = Request(state.roots[max(state.roots)], state.targets, published, proposal)
    judge(request)
    return request


def judge(request: Request) -> Judged:
    """CeremonyError or ReleaseError unless the request adds or withdraws releases and does nothing else."""
    proposal = request.proposal
    if proposal.root is not None or proposal.targets is None:
        raise CeremonyError("the request changes root.json: that is `vigie-department keys`, not a release")
    try:
        root = metadata.parse(Root, request.root, "root.json")
        before = metadata.check_targets(root, request.targets).signed
        after = metadata.parse(Targets, proposal.targets, "targets.json")
        if before.delegations != after.signed.delegations:
            raise CeremonyError("the request gives the online role another key or other paths: that is no release")
        old, new = metadata.infos(before), metadata.infos(after.signed)
    except (DepartmentError, KeyError, ValueError) as e:  # the last two: what TUF's own classes say of odd metadata
        raise CeremonyError(f"the request does not hold together: {e}") from e
    if after.signed.version != before.version + 1:
        raise CeremonyError(f"targets.json {after.signed.version} where {before.version + 1} is expected")
    for path in sorted(set(old) | set(new)):
        if path in old and path in new and old[path] != new[path]:
            raise CeremonyError(f"{path}: the request changes it; what is published never changes")
        if (path not in old or path not in new) and not path.startswith(_PREFIX):
            raise CeremonyError(f"{path}: the request adds or removes it; a release is below {_PREFIX}")
    former = [_descriptor(path, request.published.get(path), old[path]) for path in old if path.startswith(_PREFIX)]
    added = [_descriptor(path, proposal.files.get(path), new[path]) for path in sorted(set(new) - set(old))]
    removed = tuple(sorted(set(old) - set(new)))
    if not added and not removed:
        raise CeremonyError("the request adds no release and withdraws none")
    for one in sorted(added, key=lambda one: one.version):
        check_follows(one, former)
        former.append(one)
    return Judged(root, after, tuple(added), removed)


def _descriptor(path: str, data: bytes | None, info: metadata.TargetInfo) -> FirmwareDescriptor:
    if data is None:
        raise CeremonyError(f"{path}: its content is missing from the request")
    if (len(data), hashlib.sha256(data).hexdigest()) != (info.length, info.sha256):
        raise CeremonyError(f"{path}: its content is not what targets.json lists")
    try:
        descriptor = FirmwareDescriptor.from_bytes(data)
    except MessageError as e:
        raise ReleaseError(f"{path}: boxes would refuse it ({e})") from e
    if firmware_path(descriptor.version) != path:
        raise ReleaseError(f"{path}: is the descriptor of {descriptor.version}")
    return descriptor


def sign(judged: Judged, holders: Sequence[Keyholder]) -> bytes:
    """The file to carry back. CeremonyError when a key is not one of root.json's."""
    found = []
    known = judged.root.signed.roles["targets"].keyids
    for holder in holders:
        signer = CryptoSigner(holder.key)
        if signer.public_key.keyid not in known:
            raise CeremonyError(f"keyholder-{holder.number}.pem is not one of the keys of root.json")
        signature = signer.sign(judged.targets.signed_bytes)
        found.append({"keyid": signature.keyid, "sig": signature.signature})
    document = {"v": 1, "targets": judged.targets.signed.version, "digest": judged.digest, "signatures": found}
    return json.dumps(document, indent=1).encode() + b"\n"


def assemble(request: Request, judged: Judged, files: Mapping[str, bytes]) -> Proposal:
    """The proposal with the signatures of these files (name -> content): signed by enough, each signature right.

    CeremonyError names the file, or how many signatures are missing.
    """
    targets = judged.targets
    role = judged.root.signed.roles["targets"]
    for name, content in files.items():
        for signature in _signatures(name, content, judged.digest):
            key = judged.root.signed.keys.get(signature.keyid)
            if key is None or signature.keyid not in role.keyids:
                raise CeremonyError(f"{name}: signed by {signature.keyid[:8]}, which is no keyholder of root.json")
            try:
                key.verify_signature(signature, targets.signed_bytes)
            except (UnverifiedSignatureError, VerificationError) as e:
                raise CeremonyError(f"{name}: the signature of {signature.keyid[:8]} is wrong") from e
            targets.signatures[signature.keyid] = signature
    data = targets.to_bytes()
    try:
        metadata.check_targets(judged.root, data)
    except DepartmentError as e:
        raise CeremonyError(str(e)) from e
    return replace(request.proposal, targets=data)


def _signatures(name: str, data: bytes, digest: str) -> list[Signature]:
    try:
        raw = json.loads(data)
        if raw["v"] != 1:
            raise ValueError(f"version {raw['v']}")
        found = [Signature(str(one["keyid"]), str(one["sig"])) for one in raw["signatures"]]
        over = str(raw["digest"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise CeremonyError(f"{name}: not a file of signatures made by `vigie-ota sign add` ({e})") from e
    if over != digest:
        raise CeremonyError(f"{name}: signatures of another request (digest {over[:80]}, this one is {digest})")
    return found
