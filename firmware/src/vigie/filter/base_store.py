"""The toxic base in force: from a base file to the data path's image, and what people ask about it afterwards.

`prepare` has a process read, verify and build (`base_builder`) and needs no kernel: it may run in a thread. `install`
writes into the data path and belongs to the thread that owns it. What the kernel holds is the only copy: look-ups read
it in place, feeds' names are read from the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vigie.errors import BaseError, ImageError
from vigie.filter import abi
from vigie.filter.base.baseformat import MAGIC, MAX_FILE, NotABaseFile
from vigie.filter.base.deltaformat import DeltaError
from vigie.filter.base.diff import Delta, patch_image
from vigie.filter.base.imageformat import DIGEST_OFFSET, PAGE_BYTES, Header
from vigie.filter.base.lookup import Lookup
from vigie.filter.base_builder import BaseInfo, Judged, box_lists
from vigie.filter.bpfmap import Map
from vigie.filter.datapath import DataPath, ImageLoad
from vigie.filter.why import Question, Source
from vigie.host.files import sync_folder

__all__ = ["BaseInfo", "BaseStore", "FileImage", "Prepared", "box_lists", "prepare"]

BUILD_S = 120.0
ANSWER_MAX = 1 << 20
COPY_BYTES = 256 * abi.PAGE_BYTES


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a memory file, as `DataPath.load_image` takes it: read straight into the kernel's array."""

    fd: int
    nbytes: int

    def write(self, out: memoryview) -> None:
        """Fills `out` (nbytes). Raises ImageError when the file is shorter."""
        at = 0
        while at < self.nbytes:
            done = os.preadv(self.fd, [out[at : at + COPY_BYTES]], at)
            if not done:
                raise ImageError(f"the image ends at {at} of {self.nbytes} bytes")
            at += done

    def save(self, path: Path) -> None:
        """Writes the file that the early loader maps at boot, in one step. Raises BaseError."""
        temporary = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as out:
                at = 0
                while at < self.nbytes:
                    at += os.sendfile(out.fileno(), self.fd, at, self.nbytes - at)
                os.fsync(out.fileno())
            temporary.replace(path)
        except OSError as e:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise BaseError(f"{path}: the image for the next start cannot be written ({e.strerror})") from e


@dataclass(frozen=True, slots=True)
class Prepared:
    """A base ready to be installed; `close` gives its memory back. judged: when held against the one in force."""

    info: BaseInfo
    image: FileImage
    judged: Judged | None = None

    def close(self) -> None:
        """Lets the image go."""
        os.close(self.image.fd)


def prepare(path: Path | None, lists: Path | None = None, against: Map | None = None) -> Prepared:
    """Has a base file read, verified and built. Raises BaseError; nothing has changed then.

    None: a base without feeds; the never-block list, the test indicator and the DoH canaries still hold. `lists`: what
    the department protects and holds essential (`ordered_lists`). `against`: the image in force, to be held against.
    """
    name = str(path) if path is not None else ""
    fd = os.memfd_create("vigie-image", os.MFD_CLOEXEC)
    argv = [sys.executable, "-m", "vigie.filter.base_builder", name, str(fd), str(lists) if lists is not None else ""]
    fds: tuple[int, ...] = (fd,)
    if against is not None:
        argv.append(f"{against.fd}:{against.max_entries}")
        fds = (fd, against.fd)
    try:
        answer = _run(argv, name, fds)
        info = BaseInfo(**{**answer["info"], "feeds": tuple(answer["info"]["feeds"])})
        judged = Judged.from_json(answer) if against is not None else None
        return Prepared(info, FileImage(fd, os.fstat(fd).st_size), judged)
    except BaseException:
        os.close(fd)
        raise


def _run(argv: list[str], name: str, fds: tuple[int, ...]) -> dict[str, Any]:
    """The one line that a process of ours prints. Raises BaseError when it prints another, or an error."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=fds, timeout=BUILD_S)
    except subprocess.TimeoutExpired as e:
        raise BaseError(f"{name}: not read within {BUILD_S:.0f} s, the running base stays") from e
    try:
        answer: dict[str, Any] = json.loads(done.stdout[:ANSWER_MAX])
        if "error" in answer:
            raise BaseError(str(answer["error"]))
        return answer
    except (ValueError, TypeError) as e:
        last = done.stderr[-500:].decode("utf-8", "replace").strip()
        raise BaseError(f"{name}: the reader of the base ended with {done.returncode}: {last}") from e


def patch_on_disk(path: Path, deltas: Sequence[bytes], target: Path) -> str:
    """Writes `target`: the base file at `path` with delta files (their bytes) applied one after the other; the content
    id that was reached. In a process of its own. Raises BaseError; `path` is untouched."""
    fds: list[int] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for data in deltas:
            fds.append(os.memfd_create("vigie-delta", os.MFD_CLOEXEC))
            with open(os.dup(fds[-1]), "wb") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(data)
        argv = [sys.executable, "-m", "vigie.filter.base_patcher", str(path), str(target), *map(str, fds)]
        return str(_run(argv, str(path), tuple(fds))["content"])
    except OSError as e:
        raise BaseError(f"{target}: cannot be prepared ({e.strerror})") from e
    finally:
        for fd in fds:
            os.close(fd)


def open_regular(path: Path) -> BinaryIO:
    """A file that a client names, for reading; no pipe to wait at, no device. Raises BaseError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise BaseError(f"{path}: cannot be read ({e.strerror})") from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BaseError(f"{path}: is not a file")
    return os.fdopen(fd, "rb")


def stage(source: Path, target: Path) -> str:
    """Copies a base to where nobody but the filter changes it, on the disk; its SHA-256 (hex). Raises BaseError.

    Only what begins like a base is copied, for the filter's own eyes: clients name files that they may not read.
    """
    digest = hashlib.sha256()
    left = MAX_FILE
    with open_regular(source) as stream:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as out:
                while chunk := stream.read(COPY_BYTES):
                    if left == MAX_FILE and not chunk.startswith(MAGIC):
                        raise NotABaseFile(f"{source}: not a base file (compile feeds with `vigie base compile`)")
                    left -= len(chunk)
                    if left < 0:
                        raise BaseError(f"{source}: more than {MAX_FILE} bytes are no base")
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        except OSError as e:
            target.unlink(missing_ok=True)
            raise BaseError(f"{target}: the base cannot be copied to be read ({e.strerror})") from e
        except BaseError:
            target.unlink(missing_ok=True)
            raise
    return digest.hexdigest()


def keep_staged(staged: Path, target: Path) -> None:
    """Puts a staged base in its place, in one step. Raises BaseError."""
    try:
        staged.chmod(0o644)
        staged.replace(target)
        sync_folder(target.parent)
    except OSError as e:
        raise BaseError(f"{target}: the base is in force but cannot be kept ({e.strerror})") from e


def save_image(image: memoryview, path: Path) -> None:
    """Writes an image as the early loader maps it at boot, its digest made here, in one step. Raises BaseError."""
    pages = Header.unpack(image).pages
    digest = hashlib.sha256()
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            out.write(image[:PAGE_BYTES])
            for at in range(PAGE_BYTES, pages * PAGE_BYTES, COPY_BYTES):
                chunk = image[at : min(at + COPY_BYTES, pages * PAGE_BYTES)]
                digest.update(chunk)
                out.write(chunk)
            out.seek(DIGEST_OFFSET)
            out.write(digest.digest())
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BaseError(f"{path}: the image for the next start cannot be written ({e.strerror})") from e


class BaseStore:
    """The base in force."""

    def __init__(self, datapath: DataPath) -> None:
        self._datapath = datapath
        self._lookup: Lookup | None = None
        self._gen = -1
        self.info: BaseInfo | None = None
        self.kept = True  # the file on disk is the base in force

    def install(self, prepared: Prepared) -> ImageLoad:
        """Puts a base into force. ImageError or BpfError leave the running one."""
        self._lookup, self._gen = None, -1  # lets the old image go, unless it stays in force
        done = self._datapath.load_image(abi.KIND_BASE, prepared.image)
        self.info = prepared.info
        return done

    def patch(self, delta: Delta, lists: Path, info: BaseInfo) -> ImageLoad:
        """Puts a base into force that differs from the running one by a delta; `info` is what will be said of it.

        Raises DeltaError when it does not fit, ImageError or BpfError: the running one stays then.
        """
        image = self._datapath.image_bytes()
        if image is None:
            raise DeltaError("no base is in force that a delta could change: load the whole base")
        additions, _wrong = box_lists(lists)
        plan = patch_image(image, delta, additions)
        self._lookup, self._gen = None, -1
        done = self._datapath.load_image(abi.KIND_BASE, plan)
        self.info = info
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

    def sources(self, question: Question) -> tuple[Source, ...]:
        """Feeds that list what is asked about, from the file of the base in force; none when it cannot be read.

        Read by a process of its own (`base_sources`): the columns of sources are as large as those of the base.
        """
        if self.info is None or not self.info.path:
            return ()
        asked = question.name or question.address
        argv = [sys.executable, "-m", "vigie.filter.base_sources", self.info.path, str(self.info.serial), asked]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=BUILD_S)
            return tuple(Source(*row) for row in json.loads(done.stdout[:ANSWER_MAX]))
        except (subprocess.TimeoutExpired, ValueError, TypeError):
            return ()
