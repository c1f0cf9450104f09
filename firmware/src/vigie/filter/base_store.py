"""The toxic base in force: from a base file to the data path's image, and what people ask about it afterwards.

Reading and planning (`prepare`) need no kernel and may run in a thread. `install` writes into the data path and belongs
to the thread that owns it. What the kernel holds is the only copy: look-ups read it in place, feeds' names are read
from the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vigie.contract.codes import Action
from vigie.errors import BaseError, ImageError, ListError
from vigie.filter import abi
from vigie.filter.base import lists
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import load_base
from vigie.filter.base.image import ImagePlan, plan_image
from vigie.filter.base.imageformat import DIGEST_OFFSET
from vigie.filter.base.lookup import Lookup, address_bytes
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys, suffix_hashes
from vigie.filter.datapath import DataPath, ImageLoad
from vigie.filter.why import Question, Source

COPY_BYTES = 256 * abi.PAGE_BYTES


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """What is said of a base. `path` is empty for the one without feeds that a box without a file starts with."""

    serial: int
    created: int
    v4: int
    v6: int
    names: int
    feeds: tuple[str, ...]
    path: str

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A base ready to be installed."""

    info: BaseInfo
    plan: ImagePlan


def box_lists() -> tuple[Additions, str]:
    """The lists shipped with the box as additions to any base, and what was wrong with them ("" when nothing)."""
    try:
        never, essential = lists.never_block(), lists.essential()
    except (ListError, OSError) as e:
        # The toxic base without its protections would block what must never be: better the base's own protections
        # and the built-in indicators than no filtering at all; status says so.
        return Additions(), str(e)
    return Additions(
        never_names=never.names,
        never_networks=tuple(map(str, never.prefixes)),
        essential_names={name: e.rank for e in reversed(essential) for name in e.names},
        essential_networks={str(prefix): e.rank for e in reversed(essential) for prefix in e.prefixes},
    ), ""


def prepare(path: Path, additions: Additions) -> Prepared:
    """Reads and verifies a base file. Raises BaseError; nothing has changed then."""
    base = load_base(path, sources=False, texts=False)
    return _planned(base, str(path), additions)


def prepare_empty(additions: Additions) -> Prepared:
    """A base without feeds: the never-block list, the test indicator and the DoH canaries still hold."""
    key, seed = name_keys()
    return _planned(Base(serial=0, created=0, name_key=key, name_seed=seed), "", additions)


def _planned(base: Base, path: str, additions: Additions) -> Prepared:
    feeds = tuple(f.feed.name for f in base.feeds)
    info = BaseInfo(base.serial, base.created, len(base.v4), len(base.v6), len(base.names), feeds, path)
    return Prepared(info, plan_image(base, additions))


class BaseStore:
    """The base in force."""

    def __init__(self, datapath: DataPath) -> None:
        self._datapath = datapath
        self._lookup: Lookup | None = None
        self._gen = -1
        self.info: BaseInfo | None = None

    def install(self, prepared: Prepared) -> ImageLoad:
        """Puts a base into force. ImageError or BpfError leave the running one."""
        self._lookup, self._gen = None, -1  # lets the old image go, unless it stays in force
        done = self._datapath.load_image(abi.KIND_BASE, prepared.plan)
        self.info = prepared.info
        return done

    def lookup(self) -> Lookup | None:
        """Reads the image in force, in place; None when there is none."""
        slot = abi.gen_parts(self._datapath.settings.gen)[2]
        header = self._datapath.image_header()
        if header is None:
            return None
        mark = slot << 64 | int(header["serial"])
        if self._lookup is None or mark != self._gen:
            image = self._datapath.image_bytes()
            with contextlib.suppress(ImageError):
                self._lookup = Lookup(image) if image is not None else None
            self._gen = mark
        return self._lookup

    def keep_image(self, path: Path) -> None:
        """Writes the image in force for the early loader. Raises BaseError."""
        image = self._datapath.image_bytes()
        if image is not None:
            write_image(image, path)

    def sources(self, question: Question) -> tuple[Source, ...]:
        """Feeds that list what is asked about, from the file of the base in force; none when it cannot be read."""
        if self.info is None or not self.info.path:
            return ()
        try:
            base = load_base(Path(self.info.path), sources=True, texts=False)
        except BaseError:
            return ()
        if base.serial != self.info.serial:
            return ()
        number = name_source(base, question.name) if question.name else address_source(base, question.address)
        if number is None:
            return ()
        feeds = (base.feeds[i].feed for i in base.source_sets[number])
        return tuple(Source(feed.name, feed.source, int(feed.category)) for feed in feeds)


def name_source(base: Base, name: str) -> int | None:
    """Source set of the longest listed suffix of a name."""
    found = None
    for _suffix, number in suffix_hashes(name, base.name_key, base.name_seed):
        at = int(np.searchsorted(base.names.hash, np.uint64(number)))
        listed = at < len(base.names) and int(base.names.hash[at]) == number
        if listed and base.classes[int(base.names.cls[at])].action is not Action.NONE:
            found = int(base.names.source[at])
    return found


def address_source(base: Base, address: str) -> int | None:
    """Source set of the interval that holds an address."""
    raw = address_bytes(address)
    if raw.startswith(abi.MAPPED_PREFIX):
        value = int.from_bytes(raw[12:], "big")
        at = int(np.searchsorted(base.v4.start, np.uint32(value), side="right")) - 1
        return int(base.v4.source[at]) if at >= 0 and value <= int(base.v4.last[at]) else None
    hi, lo = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")
    v6 = base.v6
    first, after = (int(np.searchsorted(v6.start_hi, np.uint64(hi), side=side)) for side in ("left", "right"))
    at = first + int(np.searchsorted(v6.start_lo[first:after], np.uint64(lo), side="right")) - 1
    if at < 0 or (hi, lo) > (int(v6.last_hi[at]), int(v6.last_lo[at])):
        return None
    return int(v6.source[at])


def keep_file(source: Path, target: Path) -> None:
    """Copies an applied base to its place, in one step. Raises BaseError."""
    if source == target:
        return
    temporary = target.with_name(target.name + ".new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as stream, temporary.open("wb") as out:
            shutil.copyfileobj(stream, out, COPY_BYTES)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BaseError(f"{target}: the base is in force but cannot be kept ({e.strerror})") from e


def write_image(image: memoryview, path: Path) -> None:
    """Copies the image in force to the file that the early loader maps at boot, with its digest, in one step.

    `image` is the data path's own memory: nothing is held twice. Raises BaseError.
    """
    temporary = path.with_name(path.name + ".new")
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(image[: abi.PAGE_BYTES])
            for at in range(abi.PAGE_BYTES, len(image), COPY_BYTES):
                part = image[at : at + COPY_BYTES]
                digest.update(part)
                stream.write(part)
            stream.seek(DIGEST_OFFSET)
            stream.write(digest.digest())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BaseError(f"{path}: the image for the next start cannot be written ({e.strerror})") from e
