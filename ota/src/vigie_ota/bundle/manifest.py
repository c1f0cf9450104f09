"""RAUC's manifest, in the one form that Vigie writes (RAUC's reference, "Manifest").

Its SHA-256 is what the descriptor carries and what `require-manifest-hash` compares: the signed text holds the digest
of each image and the root of the hash tree over everything in the bundle.
"""

from __future__ import annotations

import configparser
import hashlib
import re
from dataclasses import dataclass, replace
from typing import Final

from vigie.contract.errors import MessageError
from vigie.contract.firmware import BOARD, Version, parse_version
from vigie_ota.errors import BundleError

FORMAT: Final = "verity"
ADAPTIVE: Final = "block-hash-index"
BLOCK: Final = 4096
MANIFEST_MAX: Final = 16 * 1024
SLOTS: Final = ("rootfs", "boot")
"""Both slots of a side, always together: a kernel does not start with the root hash of another system."""
_COMPATIBLE: Final = re.compile(rf"vigie-({BOARD.pattern})")
_FILE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Image:
    """What goes into one slot. sha256 "" and size 0: not measured yet (the image build's own manifest)."""

    slot: str
    filename: str
    adaptive: bool
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Verity:
    """The hash tree over the payload: root and salt in hex, bytes of the tree."""

    root: str
    salt: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle in words. verity None: not packed yet, as inside the payload."""

    board: str
    version: Version
    images: tuple[Image, ...]
    verity: Verity | None = None

    def to_bytes(self) -> bytes:
        """The text, in RAUC's own order."""
        lines = ["[update]", f"compatible=vigie-{self.board}", f"version={self.version}", "", "[bundle]"]
        lines.append(f"format={FORMAT}")
        if self.verity is not None:
            lines += [
                f"verity-hash={self.verity.root}", f"verity-salt={self.verity.salt}", f"verity-size={self.verity.size}"
            ]  # fmt: skip
        for image in self.images:
            lines += ["", f"[image.{image.slot}]", f"sha256={image.sha256}", f"size={image.size}"]
            lines.append(f"filename={image.filename}")
            if image.adaptive:
                lines.append(f"adaptive={ADAPTIVE};")
        return "\n".join(lines).encode() + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hex: RAUC's manifest hash."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def packed(self, verity: Verity) -> Manifest:
        """With the hash tree: what is signed."""
        return replace(self, verity=verity)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Reads; BundleError, also for anything that Vigie does not write: hooks, handlers, other formats and slots."""
        if len(data) > MANIFEST_MAX:
            raise BundleError(f"{where}: {len(data)} bytes, a manifest has at most {MANIFEST_MAX}")
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(data.decode("utf-8"))
            sections = {name: dict(parser[name]) for name in parser.sections()}
            found = _read(sections)
        except (configparser.Error, UnicodeError, KeyError, ValueError, MessageError) as e:
            raise BundleError(f"{where}: not a manifest of Vigie ({e})") from e
        return found


def _read(sections: dict[str, dict[str, str]]) -> Manifest:
    update, bundle = sections.pop("update"), sections.pop("bundle")
    compatible = _COMPATIBLE.fullmatch(update.pop("compatible"))
    if compatible is None:
        raise ValueError("compatible is not `vigie-BOARD`")
    version = parse_version(update.pop("version"))
    if bundle.pop("format") != FORMAT:
        raise ValueError(f"only bundles of the format {FORMAT} are accepted")
    verity = None
    if bundle:
        verity = Verity(
            _hex(bundle.pop("verity-hash")), _hex(bundle.pop("verity-salt")), int(bundle.pop("verity-size"))
        )
        if verity.size <= 0 or verity.size % BLOCK:
            raise ValueError(f"a hash tree of {verity.size} bytes")
    images = []
    for slot in SLOTS:
        images.append(_image(slot, sections.pop(f"image.{slot}")))
    unknown = [*update, *bundle, *sections]
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}")
    return Manifest(compatible[1], version, tuple(images), verity)


def _image(slot: str, fields: dict[str, str]) -> Image:
    filename, adaptive = fields.pop("filename"), fields.pop("adaptive", "").rstrip(";")
    if _FILE.fullmatch(filename) is None:
        raise ValueError(f"image.{slot}: {filename!r} is no plain file name")
    if adaptive not in ("", ADAPTIVE):
        raise ValueError(f"image.{slot}: adaptive={adaptive}")
    digest, size = fields.pop("sha256", ""), int(fields.pop("size", "0"))
    if fields:
        raise ValueError(f"image.{slot}: unknown: {', '.join(fields)}")
    return Image(slot, filename, bool(adaptive), _hex(digest) if digest else "", size)


def _hex(text: str) -> str:
    if _SHA256.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not a SHA-256")
    return text
