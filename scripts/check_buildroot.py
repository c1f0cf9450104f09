"""`make check-buildroot BUILDROOT_DIR=...`: what a real Buildroot says of this tree, without building anything.

Both configurations (and the developer's) are loaded into a scratch folder: nothing dropped, `savedefconfig` gives the
committed file back, nothing is in a release that must not be; our packages are known, with licence and, where they are
downloaded, a hash; what `firmware/pyproject.toml` needs is selected; the kernel's tarball has a hash; `make -n` plans
each of our packages; `utils/check-package` is silent. One line a check, one JSON line last.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import buildroot, check_options
from scripts.buildroot import ROOT, Board, ImageError, Tree

OURS: Final = ("vigie", "vigie-bpf", "python-tuf", "python-securesystemslib")
# What `make -n` must mention of each: where its source comes from, how it is built, what it leaves.
STEPS: Final = {
    "vigie": (f"{ROOT}/firmware", "-m build -n -w", "install.sh"),
    "vigie-bpf": (f"{ROOT}/firmware/bpf", ".br_real", "usr/lib/vigie/filter.bpf.o", "usr/lib/vigie/vigie-early"),
    "python-tuf": ("tuf-", "--skip-dependency-check"),
    "python-securesystemslib": ("securesystemslib-",),
}
STAMPS: Final = (
    *(
        "downloaded",
        "actual_downloaded",
        "rsynced",
        "extracted",
        "patched",
        "kconfig_fixup_done",
        "configured",
        "built",
    ),
    *("staging_installed", "images_installed", "target_installed", "host_installed", "installed"),
)
# An ELF file of the machine "Linux BPF" (247), 64 bits, little-endian, with nothing in it.
ELF_HEADER: Final = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 247, 1, 0, 0, 0, 0, 64, 0, 0, 64, 0, 0)
# What utils/check-package imports, and where Debian keeps it.
CHECKERS: Final = {"magic": "python3-magic", "flake8": "python3-flake8"}
# A distribution's name where Buildroot's package has another.
PACKAGES: Final = {"python-multipart": "python-multipart", "pyserial": "python-serial"}


class Failed(Exception):
    """One check did not hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all hold, 1 some do not, 2 could not look."""
    parser = argparse.ArgumentParser(description="this tree against a real Buildroot, without building")
    parser.add_argument("buildroot", type=Path, help=f"a checkout of {buildroot.TAG}")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    try:
        checkout = arguments.buildroot.absolute()
        buildroot.verify(checkout)
        need_checkers()
    except (ImageError, OSError) as e:
        print(f"check-buildroot: {e}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="vigie-buildroot-") as scratch:
        failed = run(list(checks(checkout, Path(scratch))))
    print(
        json.dumps(
            {"check-buildroot": {"failed": failed, "tag": buildroot.TAG, "s": round(time.monotonic() - started)}}
        )
    )
    return 1 if failed else 0


def run(steps: Sequence[tuple[str, Callable[[], str]]]) -> list[str]:
    """Each step, whatever happened to the others; -> names of those that failed."""
    failed = []
    for name, step in steps:
        try:
            print(f"  ok      {name}: {step()}", flush=True)
        except (Failed, ImageError) as e:
            failed.append(name)
            print(f"  FAILED  {name}: {e}", flush=True)
    return failed


def checks(checkout: Path, scratch: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Every check, in an order where each finds what it needs."""
    for board in buildroot.BOARDS.values():
        tree = Tree(checkout, scratch / board.name)
        yield f"{board.name}: options", lambda t=tree, b=board: options(t, b)  # type: ignore[misc]
        yield f"{board.name}: savedefconfig", lambda t=tree, b=board: same_defconfig(t, b)  # type: ignore[misc]
        yield f"{board.name}: Python needs", lambda t=tree: python_needs(t)  # type: ignore[misc]
        yield f"{board.name}: kernel hash", lambda t=tree: kernel_hash(t)  # type: ignore[misc]
        info: dict[str, Any] = {}
        yield f"{board.name}: packages", lambda t=tree, i=info: packages(t, i)  # type: ignore[misc]
        yield f"{board.name}: data path's compiler", lambda t=tree: compiler(t)  # type: ignore[misc]
        yield f"{board.name}: programs of a strange processor", lambda t=tree: strange(t)  # type: ignore[misc]
        yield f"{board.name}: plan", lambda t=tree, i=info: plan(t, i)  # type: ignore[misc]
        dev = Tree(checkout, scratch / f"{board.name}-dev")
        yield f"{board.name}: developer's options", lambda t=dev, b=board: dev_options(t, b)  # type: ignore[misc]
    yield "forbidden options exist", lambda: known(checkout, scratch / "qemu")
    yield "check-package", lambda: check_package(checkout)


def need_checkers() -> None:
    """utils/check-package's own needs, all that is missing at once."""
    missing = [name for name in CHECKERS if importlib.util.find_spec(name) is None and not _system_has(name)]
    if missing:
        raise ImageError(
            f"{buildroot.TAG}'s utils/check-package imports {', '.join(missing)}: "
            f"apt install {' '.join(CHECKERS[name] for name in missing)}"
        )


def options(tree: Tree, board: Board) -> str:
    """The configuration as `make NAME_defconfig` loads it, against the file and against what a release must be."""
    tree.read(board.defconfig)
    return _options(tree, [board.path, buildroot.RELEASE_EXPECT])


def dev_options(tree: Tree, board: Board) -> str:
    """The same with the developer's fragment, as `make image DEV=1` merges it."""
    merged = tree.output.with_suffix(".defconfig")
    buildroot.write_defconfig(merged, *buildroot.dev_parts(board))
    tree.read(f"BR2_DEFCONFIG={merged}", "defconfig")
    return _options(tree, [merged])


def _options(tree: Tree, files: list[Path]) -> str:
    lost, count = check_options.check_output(tree.output, files, built=False)
    if lost:
        raise Failed("lost\n" + "\n".join(f"            {one}" for one in lost))
    return f"{count} asked for, {count} in force"


def same_defconfig(tree: Tree, board: Board) -> str:
    """`make savedefconfig` gives the committed file, byte for byte."""
    saved = tree.output / "saved_defconfig"
    tree.read(f"BR2_DEFCONFIG={saved}", "savedefconfig")
    if saved.read_text() != board.path.read_text():
        mine, theirs = board.path.read_text().splitlines(), saved.read_text().splitlines()
        only = [f"- {line}" for line in mine if line not in theirs] + [
            f"+ {line}" for line in theirs if line not in mine
        ]
        raise Failed(f"{board.path.name} is not what savedefconfig writes: {'; '.join(only) or 'another order'}")
    return "identical"


def python_needs(tree: Tree) -> str:
    """Each distribution that the box's pyproject names is selected (for Buildroot's Python: 3.14 or later)."""
    with (ROOT / "firmware" / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    values = _values(tree)
    names = [re.split(r"[\s;<>=~!\[]", line)[0].lower() for line in wanted if "python_version < '3.14'" not in line]
    missing = [name for name in names if values.get(f"BR2_PACKAGE_{_package(name)}", "n") != "y"]
    if missing:
        raise Failed(f"not selected: {', '.join(missing)}")
    return f"{len(names)} distributions, all selected"


def kernel_hash(tree: Tree) -> str:
    """The kernel is fetched by a version that has a SHA-256 in the tree."""
    values = _values(tree)
    location = values.get("BR2_LINUX_KERNEL_CUSTOM_TARBALL_LOCATION", "").strip('"')
    name = location.rsplit("/", 1)[-1] or f"linux-{values['BR2_LINUX_KERNEL_VERSION'].strip(chr(34))}.tar.xz"
    folders = check_options.files_named(values, "BR2_GLOBAL_PATCH_DIR", tree.checkout)
    text = "".join(path.read_text() for folder in folders for path in folder.glob("linux/linux.hash"))
    if not re.search(rf"^sha256\s+[0-9a-f]{{64}}\s+{re.escape(name)}$", text, re.MULTILINE):
        raise Failed(f"no sha256 of {name} in {', '.join(str(folder) for folder in folders)}")
    return name


def packages(tree: Tree, info: dict[str, Any]) -> str:
    """`make show-info`, into `info`: ours are there, with licence and hashes; no compiler goes to the target."""
    info.update(json.loads(tree.read("show-info")))
    for name in OURS:
        if name not in info:
            raise Failed(f"{name} is not among the {len(info)} packages of show-info")
        if not info[name].get("licenses"):
            raise Failed(f"{name}: no licence")
        remote = [one for one in info[name].get("downloads", []) if not one["uris"][0].startswith("local")]
        text = "".join(path.read_text() for path in (ROOT / "package" / name).glob("*.hash"))
        missing = [
            one["source"] for one in remote if not re.search(rf"^sha256 .*\s{re.escape(one['source'])}$", text, re.M)
        ]
        if missing:
            raise Failed(f"{name}: no sha256 of {', '.join(missing)}")
    target = sorted(name for name, one in info.items() if one.get("type") == "target")
    tools = [name for name in target if name in ("llvm", "clang", "lld", "bpftool", "binutils", "gdb", "make")]
    if tools:
        raise Failed(f"on the target, and should not be: {', '.join(tools)}")
    return f"{len(info)} packages, {len(target)} for the target"


def compiler(tree: Tree) -> str:
    """Buildroot's own clang is built with the BPF back end, for the host only."""
    printed = tree.read(
        "printvars", "VARS=LLVM_TARGETS_TO_BUILD HOST_CLANG_VERSION CLANG_VERSION_MAJOR VIGIE_BPF_MAKE_OPTS"
    )
    values = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    targets = values.get("LLVM_TARGETS_TO_BUILD", "").split()
    if "BPF" not in targets:
        raise Failed(f"LLVM_TARGETS_TO_BUILD is {targets}: no BPF, clang could not compile the data path")
    return f"clang {values.get('CLANG_VERSION_MAJOR', '?')} for {' '.join(targets)}"


def strange(tree: Tree) -> str:
    """The data path passes Buildroot's check of what each package installs: a program of another machine.

    No object is compiled here: the check reads the header of an ELF file, and nothing else of it.
    """
    excluded = tree.read("printvars", "VARS=VIGIE_BPF_BIN_ARCH_EXCLUDE").strip().partition("=")[2].split()
    target = tree.output / "strange"
    program = target / "usr/lib/vigie/filter.bpf.o"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_bytes(ELF_HEADER)
    listed = target / "files.txt"
    listed.write_text(f"vigie-bpf,./{program.relative_to(target)}\n")
    script = str(tree.checkout / "support/scripts/check-bin-arch")
    command = [script, "-p", "vigie-bpf", "-l", str(listed), "-r", "readelf", "-a", "AArch64"]
    command += [word for folder in excluded for word in ("-i", folder)]
    environment = {**tree.env(), "TARGET_DIR": str(target)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed((done.stdout + done.stderr).strip())
    return f"allowed below {' '.join(excluded)}"


def plan(tree: Tree, info: dict[str, Any]) -> str:
    """`make -n` of our packages: every step of their recipes expands to a command.

    Buildroot marks build and install commands with `+`, so make runs them even under -n. What our packages depend on
    is therefore declared done first; our own commands then find neither sources nor tools and fail (`-i` goes on).
    """
    needed: set[str] = set()
    todo = list(OURS)
    while todo:
        for one in info.get(todo.pop(), {}).get("dependencies", []):
            if one not in needed:
                needed.add(one)
                todo.append(one)
    for name in needed - set(OURS):
        folder = tree.output / info[name]["stamp_dir"] if name in info else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for stamp in STAMPS:
                (folder / f".stamp_{stamp}").touch()
    text = tree.read("-n", "-i", *OURS)
    missing = [f"{name}: {word}" for name, words in STEPS.items() for word in words if word not in text]
    if missing:
        raise Failed(f"the plan does not mention {'; '.join(missing)}")
    return f"{text.count(chr(10))} lines of commands, {len(needed)} packages before ours"


def known(checkout: Path, output: Path) -> str:
    """A misspelt symbol is never set: each that release.expect forbids must be one of Buildroot's."""
    names = [one.symbol for one in check_options.asked(buildroot.RELEASE_EXPECT)]
    text = "".join(path.read_text(errors="replace") for path in checkout.rglob("Config.in*") if path.is_file())
    text += "".join(path.read_text() for path in ROOT.glob("package/*/Config.in"))
    defined = set(re.findall(r"^\s*(?:menu)?config (BR2_\w+)", text, re.MULTILINE))
    strange = [name for name in names if name not in defined]
    if strange:
        raise Failed(f"{buildroot.RELEASE_EXPECT.name}: no such option: {', '.join(strange)}")
    del output
    return f"{len(names)} known"


def check_package(checkout: Path) -> str:
    """Buildroot's own style check over everything that it would read of ours."""
    files = [ROOT / "Config.in", ROOT / "external.mk"]
    files += sorted(path for path in ROOT.glob("package/*/*") if path.is_file() and _buildroots(path))
    command = [_python(), str(checkout / "utils" / "check-package"), "-b", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed("\n" + (done.stdout + done.stderr).strip())
    return f"{len(files)} files, no warning"


def _buildroots(path: Path) -> bool:
    """Recipes, hashes, options and patches; units and configuration of the box have their own tests."""
    return path.name.startswith("Config.in") or path.suffix in (".mk", ".hash", ".patch")


def _package(name: str) -> str:
    package = PACKAGES.get(name) or (name if name.startswith("python-") else f"python-{name}")
    return package.upper().replace("-", "_")


def _values(tree: Tree) -> dict[str, str]:
    return check_options.configuration((tree.output / ".config").read_text())


def _python() -> str:
    """An interpreter that has what check-package imports: this one, else the system's."""
    own = all(importlib.util.find_spec(name) for name in CHECKERS)
    return sys.executable if own else "/usr/bin/python3"


def _system_has(name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(["/usr/bin/python3", "-c", code], env=environment, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
