"""The Debian part of the root file system: packages unpacked, nobody's maintainer scripts run, their work done here.

Packages come from wherever this machine's mmdebstrap gets them; archives are kept in build/vm/archives.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vm import contents
from vm.errors import VmError
from vm.tools import BUILD, ROOT, digest, run

ARCHIVES = BUILD / "archives"
MULTIARCH = "aarch64-linux-gnu"
NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[([^]]+)\]")
APPLETS = (
    "awk", "find", "xargs", "hexdump", "vi", "less", "clear", "ps", "top", "free", "which", "pgrep", "pkill", "ping",
    "nc", "udhcpc", "arping", "diff", "cmp", "gzip", "gunzip", "zcat", "tar", "cpio", "time", "watch", "usleep", "bc",
    "devmem", "ethtool", "ifconfig", "route", "netstat", "traceroute", "strings", "unzip", "wget", "blkid", "logger",
    "reset", "rev", "xxd",
)  # fmt: skip


def architecture() -> str:
    """Of this machine, in Debian's words."""
    return run(["dpkg", "--print-architecture"]).strip()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One build of that part at a time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by `make(partial folder)` when it does not exist. Older ones of the same kind go."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    make(partial)
    for old in folder.parent.iterdir():
        if old.is_dir() and old not in (partial, folder):
            shutil.rmtree(old)
    partial.rename(folder)
    return folder


def unpack(packages: Iterable[str], architecture: str, folder: Path) -> None:
    """Those packages and what they depend on."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    inside = "var/cache/apt/archives"
    run(
        [
            "mmdebstrap", "--variant=extract", f"--architectures={architecture}", f"--include={','.join(packages)}",
            "--skip=essential/unlink", "--format=directory",
            # no sync-in: it would go through tar
            f'--setup-hook=mkdir -p "$1/{inside}"; cp -l {ARCHIVES}/*.deb "$1/{inside}/" 2>/dev/null || '
            f'cp {ARCHIVES}/*.deb "$1/{inside}/" 2>/dev/null || true',
            f'--extract-hook=cp -n "$1/{inside}/"*.deb {ARCHIVES}/; rm -rf "$1/{inside}"',
            contents.SUITE, folder,
        ]
    )  # fmt: skip


# -- compiling byte code


def compiler() -> Path:
    """A Python of the box's version for this machine: its byte code is the same whatever the processor."""
    packages = contents.COMPILER_PACKAGES
    folder = BUILD / "python" / digest(*packages, contents.SUITE)
    with alone("python"):
        return cached(folder, lambda partial: unpack(packages, architecture(), partial))


def compile_python(target: Path, *places: str) -> None:
    """Byte code of every module below these places of the image, never looked at again (the root is read-only)."""
    home = compiler()
    loader = next(iter(sorted(home.glob("usr/lib*/**/ld-linux*.so.*"))), None)
    if loader is None:
        raise VmError(f"{home}: no dynamic loader: delete {BUILD / 'python'} and build again")
    libraries = ":".join(str(path.parent) for path in home.glob("usr/lib/*/libc.so.6"))
    python = [loader, "--library-path", libraries, home / f"usr/bin/python{contents.PYTHON}", "-I", "-S", "-m"]
    options = ["compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", target, "-p", "/"]

    def compile_one(place: str) -> None:
        argv = [str(word) for word in [*python, *options, target / place]]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=300,
            env={"PYTHONHOME": str(home / "usr"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        # Packages ship a few files that are no modules (templates): they have no byte code, that is all.
        if done.returncode not in (0, 1) or not any((target / place).rglob("*.pyc")):
            raise VmError(f"compileall {place}: exit {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(compile_one, places))


# -- the tree


def tree() -> Path:
    """The unpacked, trimmed, configured Debian part; kept until one of its inputs changes."""
    key = digest(*contents.PACKAGES, *contents.MODULES, Path(__file__), Path(contents.__file__))
    with alone("debian"):
        return cached(BUILD / "debian" / key, _make)


def _make(target: Path) -> None:
    unpack(contents.PACKAGES, "arm64", target)
    target.chmod(0o755)
    kernel = target / "boot"
    (image,) = kernel.glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    (target / "kernel").mkdir()
    shutil.move(image, target / "kernel" / "Image")
    (target / "kernel" / "version").write_text(version + "\n")
    run(["depmod", "-b", target, version])
    shutil.copytree(target / "usr/lib/modules" / version, target / "kernel" / "modules")
    for place in contents.DROPPED:
        path = target / place
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(target / f"usr/lib/linux-image-{version}")  # device trees of boards that this is not
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o6000:
            path.chmod(path.stat().st_mode & 0o777)  # nobody logs in, nobody changes user
    _keep_modules(target, version)
    _drop_units(target)
    _alternatives(target)
    _certificates(target)
    for name in ("data", "identity", "boot", "mnt", "root", "var", "tmp", "srv"):
        (target / name).mkdir(exist_ok=True)
    for place in ("etc/resolv.conf", "etc/hostname", "etc/fstab", "etc/motd", "etc/issue", "etc/issue.net"):
        (target / place).unlink(missing_ok=True)
    compile_python(target, "usr/lib/python3/dist-packages", f"usr/lib/python{contents.PYTHON}")
    missing = missing_libraries(target)
    if missing:
        raise VmError(f"libraries that programs of the image need and nobody brings: {missing}")


def missing_libraries(target: Path) -> dict[str, list[str]]:
    """Library -> who needs it, for those that no file or link of the image provides."""
    provided = {path.name for path in target.rglob("*.so*") if path.exists()}
    programs = [
        path
        for place in ("usr/bin", "usr/sbin", "usr/lib")
        for path in (target / place).rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix not in (".ko", ".xz") and _is_elf(path)
    ]
    shown = run([f"{MULTIARCH}-readelf", "-d", *programs])
    missing: dict[str, list[str]] = {}
    name = ""
    for line in shown.splitlines():
        if line.startswith("File: "):
            name = str(Path(line.removeprefix("File: ")).relative_to(target))
        elif (found := NEEDED.search(line)) and found[1] not in provided:
            missing.setdefault(found[1], []).append(name)
    return missing


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def dependencies(modules: Path, names: Iterable[str]) -> list[str]:
    """Files below `modules` (of modules.dep) that these modules need, each after what it depends on."""
    lines = (modules / "modules.dep").read_text().splitlines()
    table = {path: rest.split() for path, _, rest in (line.partition(":") for line in lines)}
    by_name = {_module_name(path): path for path in table}
    built_in = {_module_name(path) for path in (modules / "modules.builtin").read_text().split()}
    order: list[str] = []

    def add(path: str) -> None:
        for needed in reversed(table[path]):
            add(needed)
        if path not in order:
            order.append(path)

    for name in names:
        plain = name.replace("-", "_")
        if plain in by_name:
            add(by_name[plain])
        elif plain not in built_in:
            raise VmError(f"the kernel has no module {name}: correct vm/contents.py")
    return order


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", Path(path).name).replace("-", "_")


def _keep_modules(target: Path, version: str) -> None:
    """Only what the board may load."""
    folder = target / "usr/lib/modules" / version
    kept = set(dependencies(folder, [*contents.EARLY_MODULES, *contents.MODULES]))
    for path in folder.rglob("*.ko*"):
        if str(path.relative_to(folder)) not in kept:
            path.unlink()
    for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()
    run(["depmod", "-b", target, version])


def _drop_units(target: Path) -> None:
    """Links to these units go from every .wants folder, and nobody starts them by name either."""
    system = target / "usr/lib/systemd/system"
    for place in (system, target / "etc/systemd/system"):
        for link in place.glob("*.wants/*"):
            if link.name in contents.DROPPED_UNITS:
                link.unlink()
    for path in (target / "usr/lib/udev/rules.d").glob("*.rules"):
        if path.stem not in contents.UDEV_RULES:
            path.unlink()
    mask = target / "etc/systemd/system"
    for name in contents.MASKED_UNITS:
        (mask / name).symlink_to("/dev/null")
    for generator in (target / "usr/lib/systemd/system-generators").iterdir():
        if (
            generator.name != "systemd-fstab-generator"
        ):  # the others look for what a box has not: GPT, getty, SysV, rc.local
            generator.unlink()
    wanted = mask / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    sockets = mask / "sockets.target.wants"
    sockets.mkdir(exist_ok=True)
    for name in ("systemd-networkd.socket",):
        (sockets / name).symlink_to(f"/usr/lib/systemd/system/{name}")
    link = target / "usr/lib/systemd/system/default.target"
    link.unlink(missing_ok=True)
    link.symlink_to("multi-user.target")


def _alternatives(target: Path) -> None:
    """What update-alternatives and postinst scripts would have linked; busybox for what no package brings."""
    _link(target / "usr/sbin/init", "../lib/systemd/systemd")
    _link(target / "usr/bin/sh", "dash")
    for library in ("blas/libblas", "lapack/liblapack"):
        _link(target / "usr/lib" / MULTIARCH / f"{Path(library).name}.so.3", f"{library}.so.3")
    for applet in APPLETS:
        if not any((target / place / applet).exists() for place in ("usr/bin", "usr/sbin")):
            _link(target / "usr/bin" / applet, "busybox")


def _link(place: Path, to: str) -> None:
    if not place.exists() and not place.is_symlink():
        place.symlink_to(to)


def _certificates(target: Path) -> None:
    """The bundle that update-ca-certificates makes."""
    folder = target / "usr/share/ca-certificates/mozilla"
    parts = [path.read_text().strip() + "\n" for path in sorted(folder.glob("*.crt"))]
    if not parts:
        raise VmError(f"{folder}: no certificates: ca-certificates was not unpacked")
    bundle = target / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(parts))


__all__ = ["ROOT", "alone", "cached", "compile_python", "dependencies", "tree", "unpack"]
