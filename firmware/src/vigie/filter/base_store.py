"""The toxic base in force: from a base file to the data path's image, and what people ask about it afterwards.

`prepare` has a process read, verify and build (`base_builder`) and needs no kernel: it may run in a thread. `install`
writes into the data path and belongs to the thread that owns it. What the kernel holds is the only copy: look-ups read
it in place, feeds' names are read from the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vigie.errors import BaseError, ImageError
from vigie.filter import abi
from vigie.filter.base.lookup import Lookup
from vigie.filter.base_builder import BaseInfo, box_lists
from vigie.filter.datapath import DataPath, ImageLoad
from vigie.filter.why import Question, Source

__all__ = ["BaseInfo", "BaseStore", "FileImage", "Prepared", "box_lists", "keep_file", "prepare"]

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
    """A base ready to be installed; `close` gives its memory back."""

    info: BaseInfo
    image: FileImage

    def close(self) -> None:
        """Lets the image go."""
        os.close(self.image.fd)


def prepare(path: Path | None, lists: Path | None = None) -> Prepared:
    """Has a base file read, verified and built. Raises BaseError; nothing has changed then.

    None: a base without feeds; the never-block list, the test indicator and the DoH canaries still hold. `lists`: what
    the department protects and holds essential (`ordered_lists`).
    """
    name = str(path) if path is not None else ""
    fd = os.memfd_create("vigie-image", os.MFD_CLOEXEC)
    try:
        ordered = str(lists) if lists is not None else ""
        argv = [sys.executable, "-m", "vigie.filter.base_builder", name, str(fd), ordered]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(fd,), timeout=BUILD_S)
        info = _info(done, name)
        return Prepared(info, FileImage(fd, os.fstat(fd).st_size))
    except subprocess.TimeoutExpired as e:
        os.close(fd)
        raise BaseError(f"{name}: not read within {BUILD_S:.0f} s, the running base stays") from e
    except BaseException:
        os.close(fd)
        raise


def _info(done: subprocess.CompletedProcess[bytes], name: str) -> BaseInfo:
    try:
        answer = json.loads(done.stdout[:ANSWER_MAX])
        if "error" in answer:
            raise BaseError(str(answer["error"]))
        return BaseInfo(**{**answer, "feeds": tuple(answer["feeds"])})
    except (ValueError, TypeError, KeyError) as e:
        last = done.stderr[-500:].decode("utf-8", "replace").strip()
        raise BaseError(f"{name}: the reader of the base ended with {done.returncode}: {last}") from e


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
        done = self._datapath.load_image(abi.KIND_BASE, prepared.image)
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
