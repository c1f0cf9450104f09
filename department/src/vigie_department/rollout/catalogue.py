"""The published releases, as boxes find them: `firmware/<version>.json` in the targets that the keyholders signed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vigie.contract.errors import ContractError
from vigie.contract.firmware import (
    DESCRIPTOR_MAX,
    FOLDER,
    NO_RELEASE,
    FirmwareDescriptor,
    Version,
    firmware_path,
    parse_version,
)
from vigie_department.errors import PublishError
from vigie_department.rollout.steps import Release
from vigie_department.signer import tufstate
from vigie_department.signer.files import read_bounded
from vigie_department.signer.repository import Repository, sha256

_NAME: Final = re.compile(rf"{FOLDER}/([0-9.]+)\.json")


def published(repository: Path) -> dict[Version, FirmwareDescriptor]:
    """Every release in the targets in force. PublishError names a file that is missing or is not what was signed.

    Signatures are the boxes' business: whoever can change these files here can make them believe nothing.
    """
    served = Repository(repository)
    if not served.metadata.is_dir():
        return {}
    found: dict[Version, FirmwareDescriptor] = {}
    for path, info in tufstate.load(served.metadata).offline_files().items():
        match = _NAME.fullmatch(path)
        if match is None:
            continue
        place = served.path_of(path, info.sha256)
        data = read_bounded(place, DESCRIPTOR_MAX)
        try:
            version = parse_version(match[1])
            descriptor = FirmwareDescriptor.from_bytes(data)
        except ContractError as error:
            raise PublishError(f"{path}: {error}; publish this release again") from error
        if sha256(data) != info.sha256 or descriptor.version != version or firmware_path(version) != path:
            raise PublishError(f"{place}: not the file that the keyholders signed; publish this release again")
        found[version] = descriptor
    return found


def releases(known: dict[Version, FirmwareDescriptor]) -> tuple[Release, ...]:
    """As the engine wants them."""
    return tuple(Release(version, one.requires or NO_RELEASE) for version, one in sorted(known.items()))
