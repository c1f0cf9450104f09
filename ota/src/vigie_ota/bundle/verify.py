"""Everything about a bundle that can be checked without a box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vigie.contract.firmware import Bundle, Version, bundle_path
from vigie_ota.bundle import cms, container
from vigie_ota.bundle.build import CHANGELOG, SBOM
from vigie_ota.bundle.manifest import ADAPTIVE, BLOCK, Manifest, Verity
from vigie_ota.errors import BundleError, ToolError
from vigie_ota.tools import run


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that boxes of its board would take."""

    path: Path
    manifest: Manifest
    length: int

    @property
    def board(self) -> str:
        """Which boards it is for."""
        return self.manifest.board

    @property
    def version(self) -> Version:
        """Of the release."""
        return self.manifest.version

    def described(self) -> Bundle:
        """As the descriptor carries it."""
        return Bundle(self.manifest.digest, bundle_path(self.board, self.version), self.length)


def verify(path: Path, keyring: Path) -> Verified:
    """Signature, manifest, hash tree over every byte, files inside. BundleError, SignatureError."""
    found = container.read(path)
    signed = cms.verify(found.signature, keyring, str(path))
    manifest = Manifest.from_bytes(signed, str(path))
    if manifest.to_bytes() != signed:
        raise BundleError(f"{path}: its manifest is not in the form that vigie-ota writes; build it with vigie-ota")
    if manifest.verity is None:
        raise BundleError(f"{path}: its manifest names no hash tree")
    _check_tree(path, found.body - manifest.verity.size, manifest.verity)
    _check_files(path, manifest)
    return Verified(path, manifest, found.length)


def _check_tree(path: Path, payload: int, verity: Verity) -> None:
    if payload <= BLOCK or payload % BLOCK:
        raise BundleError(f"{path}: its manifest speaks of a hash tree of {verity.size} bytes, which does not fit")
    try:
        run(
            ["veritysetup", "verify", "--no-superblock", "--hash=sha256", f"--salt={verity.salt}",
             f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", f"--data-blocks={payload // BLOCK}",
             f"--hash-offset={payload}", path, path, verity.root]
        )  # fmt: skip
    except ToolError as e:
        raise BundleError(f"{path}: damaged, its bytes are not those that were signed ({e})") from e


def _check_files(path: Path, manifest: Manifest) -> None:
    try:
        listed = run(["unsquashfs", "-ls", "-d", "", path]).decode(errors="replace").splitlines()
    except ToolError as e:
        raise BundleError(f"{path}: its payload cannot be read ({e})") from e
    names = {line.strip("/") for line in listed}
    wanted = {image.filename for image in manifest.images} | {SBOM, CHANGELOG, "manifest.raucm"}
    wanted |= {f"{image.filename}.{ADAPTIVE}" for image in manifest.images if image.adaptive}
    missing = sorted(wanted - names)
    if missing:
        raise BundleError(f"{path}: lacks {', '.join(missing)}")
