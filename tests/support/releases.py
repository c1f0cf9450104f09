"""Small releases for tests: images, papers, a release authority, bundles."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie.contract.firmware import Version
from vigie_ota.bundle import build, certificates
from vigie_ota.bundle.manifest import Manifest

PASSPHRASE: Final = "une phrase de publication"
VERSION: Final = Version(2026, 12, 1)


def images(folder: Path, board: str = "vm", version: object = VERSION, seed: int = 1) -> Path:
    """The `bundle/` folder of an image build, with images of half a megabyte; a seed's blocks are always the same."""
    folder.mkdir(parents=True)
    blocks = random.Random(seed)
    (folder / "rootfs.img").write_bytes(b"".join(blocks.randbytes(4096) for _ in range(100)))
    (folder / "boot.vfat").write_bytes(blocks.randbytes(50 * 4096) + bytes(20 * 4096))
    (folder / "manifest.raucm").write_text(
        f"[update]\ncompatible=vigie-{board}\nversion={version}\n\n[bundle]\nformat=verity\n\n"
        "[image.rootfs]\nfilename=rootfs.img\nadaptive=block-hash-index\n\n"
        "[image.boot]\nfilename=boot.vfat\n"
    )
    return folder


def papers(folder: Path) -> dict[str, Path]:
    """Bill of materials and changelog."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {build.SBOM: folder / "sbom.json", build.CHANGELOG: folder / "changes.md"}
    component = {"type": "library", "name": "openssl", "version": "3.5.4"}
    found[build.SBOM].write_text(
        json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component]})
    )
    found[build.CHANGELOG].write_text("## 2026.12.1\n\n- heure d’été\n", encoding="utf-8")
    return found


@dataclass(frozen=True)
class Maker:
    """Makes signed bundles in one folder with one release authority."""

    folder: Path
    files: certificates.ReleaseFiles

    @classmethod
    def create(cls, folder: Path) -> Maker:
        """With a new authority."""
        return cls(folder, certificates.create(folder / "offline", PASSPHRASE, PASSPHRASE))

    @property
    def keyring(self) -> Path:
        """What boxes know."""
        return self.files.authority

    @property
    def signer(self) -> build.Signer:
        """The release certificate."""
        return build.Signer(self.files.certificate, self.files.key, PASSPHRASE)

    def papers(self) -> Mapping[str, Path]:
        """Of every bundle."""
        return papers(self.folder / "papers")

    def bundle(self, board: str = "vm", version: Version = VERSION, seed: int = 1) -> Path:
        """A bundle's path; made on the first call."""
        target = self.folder / f"vigie-{board}-{version}-{seed}.raucb"
        if not target.exists():
            source = images(self.folder / f"in-{board}-{version}-{seed}", board, version, seed)
            build.build(source, target, self.papers(), self.signer)
        return target


def manifest_of(folder: Path) -> Manifest:
    """What the image build asks for."""
    return Manifest.from_bytes((folder / "manifest.raucm").read_bytes(), str(folder))
