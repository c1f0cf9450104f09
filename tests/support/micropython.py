"""Real MicroPython for the guardian's tests: the unix port, and WebAssembly at the language level of Buildroot's 1.22.

The unix port is the machine's own when it has one that is new enough, else Debian 13's package, unpacked (not
installed) into build/micropython and run by its own loader. WebAssembly comes from npm, pinned by tests/guardian/
package-lock.json, in build/guardian. Both are made once; what cannot be made fails the test that wants it.
"""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
GUARDIAN = ROOT / "firmware" / "guardian"
TESTS = ROOT / "tests" / "guardian"
BUILD = ROOT / "build"
SUITE = "trixie"
PACKAGES = ("micropython", "libc6", "libffi8")
OLDEST = (1, 22)
ASK_VERSION = "import sys, ffi; print(sys.implementation[1][0], sys.implementation[1][1])"


class NoMicroPython(Exception):
    """There is no MicroPython to test with: what was tried, and what to install."""


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time makes things."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(argv: Sequence[str], hint: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=600, check=False)
    except OSError as error:
        raise NoMicroPython(f"{argv[0]}: {error}. {hint}") from error
    if done.returncode != 0:
        raise NoMicroPython(f"{' '.join(argv)}: exit {done.returncode}. {hint}\n{done.stdout}{done.stderr}")


def _version(argv: Sequence[str]) -> tuple[int, int] | None:
    """Of an interpreter that has ffi, else None."""
    try:
        done = subprocess.run([*argv, "-c", ASK_VERSION], capture_output=True, text=True, timeout=60, check=False)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError):
        return None


def _unpacked(folder: Path) -> list[str]:
    """How an unpacked Debian runs: with its own loader and libraries."""
    triplet = f"{platform.machine()}-linux-gnu"
    loader = next(iter(sorted((folder / "usr" / "lib" / triplet).glob("ld-linux-*.so.*"))), folder / "no-loader")
    return [str(loader), "--library-path", str(folder / "usr" / "lib" / triplet), str(folder / "usr/bin/micropython")]


def _unpack(place: Path) -> None:
    fresh = place.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    hint = "Install mmdebstrap and debian-archive-keyring, or micropython 1.22 or later."
    argv = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}", SUITE, str(fresh)]
    _run(argv, hint)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


def unix_port() -> list[str]:
    """argv of the unix port of MicroPython 1.22 or later, with ffi. Raises NoMicroPython."""
    installed = shutil.which("micropython")
    if installed is not None:
        version = _version([installed])
        if version is not None and version >= OLDEST:
            return [installed]
    place = BUILD / "micropython"
    made = place / "usr/bin/micropython"
    if not made.exists():
        with _alone("micropython"):
            if not made.exists():
                _unpack(place)
    argv = _unpacked(place)
    version = _version(argv)
    if version is None or version < OLDEST:
        raise NoMicroPython(f"{' '.join(argv)}: gives no version {OLDEST} or later; remove {place} and try again")
    return argv


def web_modules() -> Path:
    """The folder node_modules with the WebAssembly build. Raises NoMicroPython."""
    place = BUILD / "guardian"
    lock = (TESTS / "package-lock.json").read_text()
    stamp = place / "installed.json"

    def made() -> bool:
        return stamp.exists() and stamp.read_text() == lock

    if not made():
        with _alone("guardian"):
            if not made():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(TESTS / name, place / name)
                _run(["npm", "ci", "--no-audit", "--no-fund", "--prefix", str(place)], "Install nodejs and npm.")
                stamp.write_text(lock)
    return place / "node_modules"


class Interpreter:
    """A MicroPython that answers the driver's requests (tests/guardian/driver.py)."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TESTS)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self.process.stdin is not None and self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def ask(self, **request: Any) -> Any:
        """The result of one request; an exception in there is an AssertionError here."""
        to, back = self._pipes()
        to.write(json.dumps(request).encode() + b"\n")
        to.flush()
        line = back.readline()
        if not line:
            raise AssertionError(f"{self.process.args!r} ended: exit {self.process.wait(10)}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{request}: {answer['error']}")
        return answer["result"]

    def call(self, module: str, function: str, *args: Any) -> Any:
        """module.function(*args)"""
        return self.ask(module=module, function=function, args=args)

    def steps(self, module: str, name: str, args: Sequence[Any], *calls: tuple[str, Sequence[Any]]) -> list[Any]:
        """Makes an object of a class and calls its methods one after the other; what each gave."""
        return list(self.ask(module=module, args=args, calls=calls, **{"class": name}))

    def close(self) -> None:
        """Its input ends, so it ends."""
        for pipe in self._pipes():
            pipe.close()
        self.process.wait(20)


def interpreter(kind: str) -> Interpreter:
    """`unix` or `wasm`. Raises NoMicroPython."""
    driver = TESTS / "driver.py"
    if kind == "unix":
        return Interpreter([*unix_port(), str(driver), str(GUARDIAN)])
    return Interpreter(["node", str(TESTS / "run.mjs"), str(web_modules()), str(GUARDIAN), str(driver)])
