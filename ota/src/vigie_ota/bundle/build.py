"""From the image build's folder to a bundle: the same input gives the same payload, hash tree and manifest.

`rauc bundle` draws a random salt for the hash tree, so that two builds never have the same manifest. Here the salt
comes from the payload's digest; everything else is what RAUC itself would write (a test compares).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vigie.contract.firmware import BUNDLE_MAX
from vigie_department.errors import DepartmentError
from vigie_department.signer.files import read_bounded
from vigie_ota.bundle import cms, container
from vigie_ota.bundle.manifest import ADAPTIVE, BLOCK, MANIFEST_MAX, Image, Manifest, Verity
from vigie_ota.errors import BundleError
from vigie_ota.tools import run

SLOT_MAX: Final = {"rootfs": 512 << 20, "boot": 128 << 20}
"""Bytes of the partitions (board/common/layout.sh)."""
SBOM: Final = "sbom.cdx.json"
CHANGELOG: Final = "CHANGELOG.md"
_PAPER_MAX: Final = 32 << 20
_EPOCH: Final = "1577836800"
"""2020-01-01: times inside the payload mean nothing to a box; one that never changes keeps payloads alike."""
_ROOT: Final = re.compile(rb"^Root hash:\s+([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Payload and hash tree in a file, and the manifest to sign."""

    body: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Signer:
    """The release certificate with its key."""

    certificate: Path
    key: Path
    passphrase: str


def build(folder: Path, target: Path, papers: Mapping[str, Path], signer: Signer) -> Manifest:
    """The bundle of an image build's `bundle/` folder, signed. papers: SBOM and CHANGELOG. BundleError, ToolError."""
    with tempfile.TemporaryDirectory(prefix=".vigie-ota-", dir=target.parent) as name:
        unsigned = pack(folder, Path(name) / "body", papers)
        signature = cms.sign(unsigned.manifest.to_bytes(), signer.certificate, signer.key, signer.passphrase)
        container.write(target, unsigned.body, signature)
    return unsigned.manifest


def pack(folder: Path, body: Path, papers: Mapping[str, Path]) -> Unsigned:
    """Payload and hash tree into the file `body`, which must not exist; nothing is signed."""
    if body.exists():
        raise BundleError(f"{body}: exists already")
    asked = Manifest.from_bytes(_read(folder / "manifest.raucm", MANIFEST_MAX), str(folder / "manifest.raucm"))
    if asked.verity is not None:
        raise BundleError(f"{folder}: its manifest is of a finished bundle; give the folder of the image build")
    check_papers(papers)
    with tempfile.TemporaryDirectory(prefix=".vigie-ota-", dir=body.parent) as name:
        content = Path(name) / "content"
        content.mkdir()
        measured = replace(asked, images=tuple(_take(image, folder, content) for image in asked.images))
        for paper, source in papers.items():
            shutil.copyfile(source, content / paper)
        (content / "manifest.raucm").write_bytes(measured.to_bytes())
        _squash(content, body)
    verity = _hash_tree(body)
    if body.stat().st_size > BUNDLE_MAX - container.SIGNATURE_MAX:
        raise BundleError(f"{body}: {body.stat().st_size} bytes, boxes take at most {BUNDLE_MAX}")
    return Unsigned(body, measured.packed(verity))


def check_papers(papers: Mapping[str, Path]) -> None:
    """BundleError unless bill of materials and changelog are there, and are what they are called."""
    if set(papers) != {SBOM, CHANGELOG}:
        raise BundleError(f"a bundle carries {SBOM} and {CHANGELOG}, {sorted(papers)} are given")
    try:
        sbom = json.loads(_read(papers[SBOM], _PAPER_MAX))
    except ValueError as e:
        raise BundleError(f"{papers[SBOM]}: not JSON ({e})") from e
    if not isinstance(sbom, dict) or sbom.get("bomFormat") != "CycloneDX" or not sbom.get("components"):
        raise BundleError(f"{papers[SBOM]}: not a CycloneDX bill of materials with components")
    if not _read(papers[CHANGELOG], _PAPER_MAX).strip():
        raise BundleError(f"{papers[CHANGELOG]}: empty; say what changes")


def _take(image: Image, folder: Path, content: Path) -> Image:
    """The image in `content`, measured, with its index of 4 KiB blocks beside it: boxes reuse what either slot has."""
    source, target = folder / image.filename, content / image.filename
    try:
        os.link(source, target)  # same file system: nothing to copy
    except OSError:
        if not source.is_file():
            raise BundleError(f"{source} is missing") from None
        shutil.copyfile(source, target)
    size = target.stat().st_size
    if not 0 < size <= SLOT_MAX[image.slot]:
        raise BundleError(f"{source}: {size} bytes, the slot {image.slot} has {SLOT_MAX[image.slot]}")
    if size % BLOCK:
        raise BundleError(f"{source}: {size} bytes are no multiple of {BLOCK}, the size of the blocks to reuse")
    whole, index = hashlib.sha256(), bytearray()
    for piece in container.blocks(target):
        whole.update(piece)
        for at in range(0, len(piece), BLOCK):
            index += hashlib.sha256(piece[at : at + BLOCK]).digest()
    (content / f"{image.filename}.{ADAPTIVE}").write_bytes(index)
    return replace(image, adaptive=True, sha256=whole.hexdigest(), size=size)


def _squash(content: Path, target: Path) -> None:
    """Small blocks: a box that streams fetches whole blocks of the payload for each 4 KiB that it lacks."""
    run(
        ["mksquashfs", content, target, "-noappend", "-no-progress", "-quiet", "-no-xattrs", "-no-exports", "-all-root",
         "-comp", "zstd", "-b", "16K", "-mkfs-time", _EPOCH, "-all-time", _EPOCH]
    )  # fmt: skip


def _hash_tree(body: Path) -> Verity:
    payload = body.stat().st_size
    if payload % BLOCK or payload <= BLOCK:
        raise BundleError(f"{body}: a payload of {payload} bytes")
    salt = hashlib.sha256(b"vigie-bundle\0" + container.digest(body).encode()).hexdigest()
    said = run(
        ["veritysetup", "format", "--no-superblock", "--hash=sha256", f"--salt={salt}",
         f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", f"--data-blocks={payload // BLOCK}",
         f"--hash-offset={payload}", body, body]
    )  # fmt: skip
    root = _ROOT.search(said)
    size = body.stat().st_size - payload
    if root is None or size <= 0 or size % BLOCK:
        raise BundleError(f"{body}: veritysetup made no hash tree")
    return Verity(root[1].decode(), salt, size)


def _read(path: Path, most: int) -> bytes:
    try:
        return read_bounded(path, most)
    except DepartmentError as e:
        raise BundleError(str(e)) from e
