"""The signed descriptor of a release, by TUF, and whether its bundle is there in the signed length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vigie.contract.errors import ContractError
from vigie.contract.firmware import (
    DESCRIPTOR_MAX,
    Bundle,
    FirmwareDescriptor,
    UpdateCode,
    Version,
    firmware_path,
)
from vigie.errors import VigieError
from vigie.host.boxconfig import BoxConfig
from vigie.host.trusted_clock import ClockReader
from vigie.update.codes import Code, UpdateError
from vigie.update.firmware.rauc import Wanted
from vigie.update.repository import Repository


class SourceError(VigieError):
    """No descriptor, or a bundle that is not as it says. code: for the report."""

    def __init__(self, code: UpdateCode, detail: str) -> None:
        self.code = code
        super().__init__(detail)


_CODES: Final = MappingProxyType(
    {
        Code.SIGNATURE: UpdateCode.BAD_SIGNATURE,
        Code.MALFORMED: UpdateCode.BAD_SIGNATURE,
        Code.TRUST: UpdateCode.BAD_SIGNATURE,
        Code.ROLLBACK: UpdateCode.FROZEN,
        Code.EXPIRED: UpdateCode.EXPIRED,
        Code.TOO_LARGE: UpdateCode.TOO_LARGE,
        Code.MISMATCH: UpdateCode.MISMATCH,
        Code.DISK: UpdateCode.NO_SPACE,
        Code.DISK_FULL: UpdateCode.NO_SPACE,
    }
)
"""What is not here is the network's fault."""
_FRESH: Final = ("timestamp.json", "snapshot.json")
"""Roles that an honest server renews by itself: when one of these is over, something is kept back from the box."""


def code_of(error: UpdateError) -> UpdateCode:
    """The code for the report."""
    if error.code is Code.EXPIRED and any(name in str(error) for name in _FRESH):
        return UpdateCode.FROZEN
    return _CODES.get(error.code, UpdateCode.NO_NETWORK)


@dataclass(frozen=True, slots=True)
class Source:
    """The department's repository, for firmware: metadata of its own, so that the base never waits for it."""

    config: BoxConfig
    clock: ClockReader
    folder: Path

    def offer(self, version: Version) -> FirmwareDescriptor:
        """The descriptor of a release, from metadata that is valid now. SourceError."""
        path = firmware_path(version)
        try:
            with Repository(self.config, self.clock, self.folder) as repository:
                repository.refresh()
                data = repository.small(path, DESCRIPTOR_MAX)
                repository.clean()
        except UpdateError as e:
            raise SourceError(code_of(e), str(e)) from e
        if data is None:
            raise SourceError(UpdateCode.UNKNOWN_VERSION, f"{path}: signed by nobody who may")
        try:
            offer = FirmwareDescriptor.from_bytes(data)
        except ContractError as e:
            raise SourceError(UpdateCode.UNKNOWN_VERSION, f"{path}: {e}") from e
        if offer.version != version:
            raise SourceError(UpdateCode.UNKNOWN_VERSION, f"{path}: is about {offer.version}")
        return offer

    def bundle(self, bundle: Bundle) -> Wanted:
        """What RAUC is to install, once the server has it in the signed length. SourceError.

        RAUC asks for parts of the file, by the length that the server tells: so that is compared before.
        """
        try:
            with Repository(self.config, self.clock, self.folder) as repository:
                url, length = repository.url(bundle.path), repository.size(bundle.path)
        except UpdateError as e:
            raise SourceError(code_of(e), str(e)) from e
        if length != bundle.length:
            code = UpdateCode.TRUNCATED if length < bundle.length else UpdateCode.TOO_LARGE
            raise SourceError(code, f"{url}: {length} bytes, {bundle.length} are signed")
        return Wanted(url, bundle.manifest, self.config.paths.roots)
