"""The box's own software in the image: wheel, wheels that Debian lacks, data path, early loader, units, base."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from vm import contents
from vm.debian import MULTIARCH, alone, cached, compile_python, unpack
from vm.errors import VmError
from vm.tools import BUILD, ROOT, digest, run

SITE = "usr/lib/python3/dist-packages"
SCRIPT = """#!/usr/bin/python3
import sys
from vigie.cli import main
sys.exit(main())
"""


# -- Python


def pinned(requirements: str, names: tuple[str, ...]) -> str:
    """The blocks of these distributions out of requirements.txt, hashes included."""
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", requirements)
    found = {match[1]: block for block in blocks if (match := re.match(r"([A-Za-z0-9_.-]+)==", block))}
    missing = [name for name in names if name not in found]
    if missing:
        raise VmError(f"requirements.txt does not pin {', '.join(missing)}")
    # The environment markers are for the Python that runs pip.
    return "\n".join(re.sub(r"(==[^\s;]+)\s*;[^\\\n]*", r"\1 ", found[name]) for name in names) + "\n"


def wheels() -> Path:
    """Folder of the pinned wheels for the box's processor and Python."""
    subset = pinned((ROOT / "requirements.txt").read_text(), contents.WHEELS)

    def fetch(folder: Path) -> None:
        folder.mkdir()
        (folder / "requirements.txt").write_text(subset)
        platforms = [f"--platform={name}" for name in contents.WHEEL_PLATFORMS]
        run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms,
                f"--python-version={contents.PYTHON}", "--implementation=cp",
                f"--abi=cp{contents.PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none", "--require-hashes",
                "-r", folder / "requirements.txt", "-d", folder,
            ]
        )  # fmt: skip

    with alone("wheels"):
        return cached(BUILD / "wheels" / digest(subset, *contents.WHEEL_PLATFORMS, contents.PYTHON), fetch)


def install_python(target: Path, work: Path) -> None:
    """The wheel of firmware/ and the pinned ones, as files of the system's Python."""
    run([sys.executable, ROOT / "scripts/catalogues.py", "build"])
    run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
            "-w", work, ROOT / "firmware",
        ]
    )  # fmt: skip
    site = target / SITE
    names = []
    for wheel in (*sorted(wheels().glob("*.whl")), *work.glob("vigie-*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            tops = {name.split("/")[0] for name in archive.namelist()}
            for top in tops:
                if (site / top).is_dir():
                    shutil.rmtree(site / top)
            if any(".data" in top for top in tops):
                raise VmError(f"{wheel.name} brings files outside of site-packages: place them in vm/application.py")
            archive.extractall(site)
        names += [f"{SITE}/{top}" for top in sorted(tops) if (site / top).is_dir() and not top.endswith("-info")]
    program = target / "usr/bin/vigie"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    compile_python(target, *names)


# -- data path


def loader_root() -> Path:
    """Headers and libraries of the image's Debian, C library included, for the cross compiler."""
    with alone("loader"):
        folder = BUILD / "loader" / digest(*contents.LOADER_PACKAGES, contents.SUITE)
        return cached(folder, lambda partial: unpack(contents.LOADER_PACKAGES, "arm64", partial))


def datapath() -> Path:
    """Folder with filter.bpf.o (by this machine's clang) and vigie-early (for arm64)."""
    source = ROOT / "firmware" / "bpf"

    def build(folder: Path) -> None:
        tree = folder / "bpf"  # a copy: the checkout's own build is for this machine
        shutil.copytree(source, tree, ignore=shutil.ignore_patterns("build"))
        run(["make", "-C", tree, "build/filter.bpf.o"])
        run(
            [
                "make", "-C", tree, "build/vigie-early", f"CC={MULTIARCH}-gcc --sysroot={loader_root()}",
                "CFLAGS=-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2",
                # the libraries are of a newer C library than the cross compiler's
                "LDFLAGS=-s -Wl,-z,relro,-z,now -Wl,--allow-shlib-undefined",
            ]
        )  # fmt: skip
        for name in ("filter.bpf.o", "vigie-early"):
            shutil.move(tree / "build" / name, folder / name)
        shutil.rmtree(tree)

    with alone("datapath"):
        return cached(BUILD / "datapath" / digest(source, Path(__file__)), build)


# -- all of it


def install(target: Path, base: Path, work: Path) -> None:
    """Everything that is the box's, by the same steps as in Buildroot. base: a .vgb with its .img beside it."""
    install_python(target, work)
    library = target / "usr/lib/vigie"
    library.mkdir(parents=True, exist_ok=True)
    built = datapath()
    shutil.copy2(built / "vigie-early", library / "vigie-early")
    shutil.copy2(built / "filter.bpf.o", library / "filter.bpf.o")
    (library / "filter.bpf.o").chmod(0o644)
    environment = {"VIGIE_BOARD": "vm", "VIGIE_BASE": str(base), "VIGIE_TRUST": os.environ.get("VIGIE_TRUST", "")}
    run([ROOT / "package/vigie/install.sh", target], env=environment)
    for overlay in ("overlays/common", "overlays/qemu", "vm/overlay"):
        if (ROOT / overlay).is_dir():
            run(["rsync", "-a", "--chown=0:0", "--exclude=.empty", f"{ROOT / overlay}/", f"{target}/"])
    (target / "usr/share/vigie/trust").mkdir(parents=True, exist_ok=True)
    run([ROOT / "board/common/post-build.sh", target, "vm"])
