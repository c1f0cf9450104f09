"""What a base file is made of: its bounds, its sections, its errors, and the header as JSON."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vigie.contract.codes import Action, Category, Direction
from vigie.errors import BaseFormatError

from .columns import Feed
from .model import CLASS_BYTES, MAX_BASE_CLASSES, NOT_LISTED, Base, ClassEntry, FeedCount

MAGIC: Final = b"\x89VGB\r\n\x1a\n"
FORMAT: Final = 1
MAX_FILE: Final = 256 << 20
MAX_HEADER: Final = 1 << 20
MAX_COUNT: Final = 4_000_000
MAX_TEXT: Final = 128 << 20
MAX_FEEDS: Final = 4096
PREFIX: Final = struct.Struct("<8sHHI")
DIGEST: Final = 32

#: Sections: element type, and whether the column is sorted and stored as differences. Text has no element type.
SECTIONS: Final[dict[str, tuple[type[np.unsignedinteger[Any]], bool]]] = {
    "v4.start": (np.uint32, True),
    "v4.size": (np.uint32, False),
    "v4.class": (np.uint8, False),
    "v4.source": (np.uint16, False),
    "ports4": (np.uint64, True),
    "v6.start_hi": (np.uint64, True),
    "v6.start_lo": (np.uint64, False),
    "v6.size_hi": (np.uint64, False),
    "v6.size_lo": (np.uint64, False),
    "v6.class": (np.uint8, False),
    "v6.source": (np.uint16, False),
    "ports6.hi": (np.uint64, True),
    "ports6.lo": (np.uint64, False),
    "ports6.port": (np.uint16, False),
    "names.hash": (np.uint64, True),
    "names.class": (np.uint8, False),
    "names.source": (np.uint16, False),
    "sets.sizes": (np.uint16, False),
    "sets.members": (np.uint16, False),
    "names.text": (np.uint8, False),
}


class BaseFileError(BaseFormatError):
    """A base file cannot be used."""


class NotABaseFile(BaseFileError):
    """It does not begin like a base file."""


class OldBaseFile(BaseFileError):
    """A format that this program no longer reads."""


class NewBaseFile(BaseFileError):
    """A format that this program does not read yet."""


class TruncatedBaseFile(BaseFileError):
    """It ends too early."""


class CorruptBaseFile(BaseFileError):
    """A digest is wrong, or the content contradicts itself."""


class OversizeBaseFile(BaseFileError):
    """It declares, or is, more than a box will take."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a section is: bytes from the end of the head, bytes stored, elements, bytes kept of each element.

    digest: SHA-256 of what is stored; content: of what it holds, "" when the file does not say.
    """

    offset: int
    size: int
    count: int
    width: int
    digest: str
    content: str = ""


def content_id(header: Mapping[str, Any], sections: Mapping[str, tuple[int, int, str]]) -> str:
    """What a base file says, whatever library compressed it: SHA-256 (hex) over its header and what its sections hold.

    sections: name -> (count, width, SHA-256 of the uncompressed bytes).
    """
    said = {key: value for key, value in header.items() if key != "sections"}
    said["sections"] = {name: list(what) for name, what in sections.items()}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def header_of(base: Base) -> dict[str, object]:
    """All of the header but the places of the sections."""
    return {
        "serial": base.serial,
        "created": base.created,
        "flags": base.flags,
        "name_key": f"{base.name_key:016x}",
        "name_seed": f"{base.name_seed:016x}",
        "classes": [cls.pack()[:5].hex() for cls in base.classes],
        "feeds": [
            {
                "name": f.feed.name,
                "category": int(f.feed.category),
                "direction": int(f.feed.direction),
                "action": int(f.feed.action),
                "source": f.feed.source,
                "redistributable": f.feed.redistributable,
                "licence": f.feed.licence,
                "v4": f.v4,
                "v6": f.v6,
                "names": f.names,
                "bad_lines": f.bad_lines,
                "protected": f.protected,
            }
            for f in base.feeds
        ],
    }


def base_of(meta: Mapping[str, Any]) -> Base:
    """A Base with what the header says and empty tables. Raises ValueError, KeyError, TypeError or AttributeError."""
    classes = [ClassEntry.unpack(bytes.fromhex(text).ljust(CLASS_BYTES, b"\0")) for text in meta["classes"]]
    if not classes or classes[0] != NOT_LISTED or not len(classes) <= MAX_BASE_CLASSES:
        raise ValueError(f"{len(classes)} classes")
    if any(cls.force or cls.rank for cls in classes):
        # Forced classes beat never-block, ranks outlive isolation: only the box itself gives them.
        raise ValueError("a class that only a box may define")
    listed = meta["feeds"]
    if len(listed) > MAX_FEEDS:
        raise ValueError(f"{len(listed)} feeds")
    feeds = tuple(
        FeedCount(
            Feed(
                str(f["name"]),
                Category(f["category"]),
                Direction(f["direction"]),
                Action(f["action"]),
                str(f["source"]),
                bool(f["redistributable"]),
                str(f["licence"]),
            ),
            *(int(f[k]) for k in ("v4", "v6", "names", "bad_lines", "protected")),
        )
        for f in listed
    )
    serial, created, flags = int(meta["serial"]), int(meta["created"]), int(meta.get("flags", 0))
    key, seed = int(meta["name_key"], 16), int(meta["name_seed"], 16)
    if not (0 <= serial < 1 << 64 and 0 <= flags < 1 << 32 and key & 1 and 0 <= key < 1 << 64 and 0 <= seed < 1 << 64):
        raise ValueError("serial, flags or name key out of range")
    return Base(serial, created, key, seed, feeds, classes, flags=flags)
