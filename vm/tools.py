"""Commands of the build: argv lists, their output kept for the message when they fail."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vm.errors import VmError

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "vm"
TAIL = 3000


def run(
    argv: Sequence[str | Path], *, timeout: float = 600.0, env: Mapping[str, str] | None = None, stdin: str = ""
) -> str:
    """Standard output. Raises VmError with the end of what the command said."""
    words = [str(word) for word in argv]
    if shutil.which(words[0], path=search_path()) is None:
        raise VmError(f"{words[0]} is not installed: run `make setup` (scripts/packages.txt names its package)")
    environment = {**os.environ, "PATH": search_path(), **(env or {})}
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise VmError(f"{' '.join(words[:3])} ...: no end after {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-TAIL:].strip()
        raise VmError(f"{' '.join(words)}: exit {done.returncode}\n{said}")
    return done.stdout


def search_path() -> str:
    """The caller's PATH with the places of the system's own tools."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def digest(*places: Path | str) -> str:
    """Of names and contents of files, of everything below folders, and of words: 16 hexadecimal digits."""
    state = hashlib.sha256()
    for place in places:
        if isinstance(place, str):
            state.update(b"word\0" + place.encode() + b"\0")
            continue
        for path in sorted(_files(place)):
            name = str(path.relative_to(place) if place.is_dir() else path.name)
            link = os.readlink(path) if path.is_symlink() else ""  # noqa: PTH115 - the text, not the place it names
            content = link.encode() if link else path.read_bytes()
            state.update(f"{name}\0{path.lstat().st_mode & 0o111:o}\0".encode() + hashlib.sha256(content).digest())
    return state.hexdigest()[:16]


def _files(place: Path) -> Iterable[Path]:
    if not place.is_dir():
        return [place] if place.exists() else []
    return [
        path
        for path in place.rglob("*")
        if (path.is_symlink() or path.is_file()) and not {"__pycache__", "build"} & set(path.relative_to(place).parts)
    ]
