"""Into the repository: bundles first, then the descriptor, metadata last. Each step may be repeated.

Until `timestamp.json` names the new metadata no box sees anything, and what it names is all there by then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Targets

from vigie.contract.firmware import FOLDER, firmware_path
from vigie_department.config import Config
from vigie_department.signer import keys_commands, metadata, tufstate
from vigie_department.signer.client import Signer
from vigie_department.signer.files import make_folder, read_bounded, sync_folder
from vigie_department.signer.keys import Proposal
from vigie_department.signer.repository import Repository
from vigie_department.signer.tufstate import TufState
from vigie_ota.bundle import cms, container
from vigie_ota.bundle.verify import Verified
from vigie_ota.errors import BundleError, CeremonyError, ReleaseError
from vigie_ota.publish.descriptor import check_matches
from vigie_ota.publish.request import Judged, Request

_DESCRIPTOR_FILE_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Done:
    """What a publication did. again: it was published already; only what was missing was put back."""

    versions: tuple[str, ...]
    bundles: tuple[Path, ...]
    again: bool


def in_force(config: Config) -> TufState:
    """What the signer signed last."""
    return tufstate.from_files(Signer(config.paths.signer_socket).tuf_current())


def published(config: Config, state: TufState) -> dict[str, bytes]:
    """Content of every descriptor that is listed, path -> bytes."""
    repository = Repository(config.paths.repository)
    return {
        path: read_bounded(repository.path_of(path, info.sha256), _DESCRIPTOR_FILE_MAX)
        for path, info in state.offline_files().items()
        if path.startswith(f"{FOLDER}/")
    }


def publish(
    config: Config, request: Request, judged: Judged, proposal: Proposal, bundles: Sequence[Verified], keyring: Path
) -> Done:
    """Puts a signed request in force. proposal: `request.assemble`'s; keyring: that the bundles were verified with.

    ReleaseError, CeremonyError: boxes see no change.
    """
    for descriptor in judged.added:
        check_matches(descriptor, [one for one in bundles if one.version == descriptor.version])
    strangers = {one.version for one in bundles} - {one.version for one in judged.added}
    if strangers:
        raise ReleaseError(f"bundles of {', '.join(map(str, sorted(strangers)))}, which the request does not add")
    state = in_force(config)
    again = _is_in_force(state, judged)
    version = metadata.parse(Targets, state.targets, "targets.json").signed.version
    if not again and version != judged.targets.signed.version - 1:
        raise CeremonyError(
            f"the request is for targets.json {judged.targets.signed.version}, "
            f"{version} is in force: make a new one with `vigie-ota sign request`"
        )
    placed = tuple(_place(config.paths.repository, one, keyring) for one in bundles)
    repository = Repository(config.paths.repository)
    if again:
        for path, data in request.proposal.files.items():
            repository.add(path, data)
        repository.publish(state.files())
        repository.give_back()
    else:
        keys_commands.install(config, proposal)
    return Done(tuple(str(one.version) for one in judged.added), placed, again)


def _is_in_force(state: TufState, judged: Judged) -> bool:
    listed = state.offline_files()
    signed = judged.targets.signed.targets
    paths = [firmware_path(one.version) for one in judged.added]
    there = all(path in listed and listed[path].sha256 == signed[path].hashes["sha256"] for path in paths)
    return there and not any(path in listed for path in judged.removed)


def _place(repository: Path, bundle: Verified, keyring: Path) -> Path:
    """The bundle where boxes look for it; left alone when it is there already."""
    target = repository / bundle.described().path
    make_folder(target.parent, 0o755)
    if target.is_file():
        if container.digest(target) == container.digest(bundle.path):
            return target
        if _manifest_of(target, keyring) not in (None, bundle.manifest.to_bytes()):
            raise ReleaseError(f"{target}: that version was another bundle once; a number is never used again")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with bundle.path.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            os.fchmod(writer.fileno(), 0o644)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.rename(target)
        sync_folder(target.parent)
    except OSError as e:
        raise ReleaseError(f"{target}: cannot be written ({e.strerror or e}); nothing was published") from e
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _manifest_of(path: Path, keyring: Path) -> bytes | None:
    """What is signed in a bundle; None when it is damaged, and may be replaced."""
    try:
        return cms.verify(container.read(path).signature, keyring, str(path))
    except BundleError:
        return None
