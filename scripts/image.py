"""`make image`: from a clean machine to the files that a department flashes and publishes.

scripts/image.py build [--board cm4|qemu] [--buildroot DIR] [--trust DIR] [--base FILE] [--dev]
                       [--certificate FILE --key FILE]
scripts/image.py br TARGET... [--board ...]        a target of Buildroot's own, in the same output folder

Everything goes to build/image (VIGIE_IMAGE_DIR), downloads and compiler cache to build/cache (VIGIE_CACHE_DIR), which
may be shared by many checkouts. A release needs --trust: the public folder that `vigie-department init` made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import buildroot, check_options, image_outputs
from scripts.buildroot import ROOT, Board, ImageError, Tree, say

# Program -> Debian's package. Buildroot's own list (its manual, "mandatory packages"), and what fetching needs.
TOOLS: Final[Mapping[str, str]] = {
    "make": "make",
    "gcc": "gcc",
    "g++": "g++",
    "ld": "binutils",
    "ar": "binutils",
    "bash": "bash",
    "awk": "gawk",
    "sed": "sed",
    "diff": "diffutils",
    "cmp": "diffutils",
    "find": "findutils",
    "patch": "patch",
    "gzip": "gzip",
    "bzip2": "bzip2",
    "xz": "xz-utils",
    "perl": "perl",
    "tar": "tar",
    "cpio": "cpio",
    "unzip": "unzip",
    "rsync": "rsync",
    "file": "file",
    "bc": "bc",
    "git": "git",
    "wget": "wget",
    "which": "debianutils",
    "python3": "python3",
}
# Without these a box of that image could join nobody, or never be updated; `vigie-department init` writes them, and
# `vigie-ota keys create --trust` the last one.
TRUST_FILES: Final = ("roots.pem", "tuf-root.json", "steering.json", "domain", "rauc.pem")
# as vigie.contract.firmware has it; this runs without `make setup`, and a test compares
RELEASE: Final = re.compile(r"20[0-9]{2}\.(1[0-2]|[1-9])\.(0|[1-9][0-9]{0,3})")
NEED_GIB: Final = 25


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 made, 1 not, with one message that says what to do."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        need_tools(TOOLS)
        board = buildroot.board(arguments.board)
        folder = Path(os.environ.get("VIGIE_IMAGE_DIR") or ROOT / "build" / "image").absolute()
        cache = Path(os.environ.get("VIGIE_CACHE_DIR") or ROOT / "build" / "cache").absolute()
        if arguments.command == "build":
            request = Request.of(arguments, board, folder, cache)
            request.refuse()
            build(request)
        else:
            tree = Tree(_checkout(arguments.buildroot, folder), folder / board.name)
            if not (tree.output / ".config").is_file():
                raise ImageError(f"{tree.output}: not configured yet. `make image BOARD={board.name}` comes first.")
            tree.make(*arguments.targets)
    except (ImageError, OSError) as e:
        print(f"image: {e}", file=sys.stderr)
        return 1
    return 0


class Request:
    """What somebody asked to be built, and whether it may be."""

    def __init__(
        self,
        *,
        board: Board,
        folder: Path,
        cache: Path,
        buildroot: Path | None,
        trust: Path | None,
        base: Path | None,
        dev: bool,
        release: str | None,
    ) -> None:
        self.board, self.folder, self.cache, self.buildroot = board, folder, cache, buildroot
        self.trust, self.base, self.dev, self.release = trust, base, dev, release

    @classmethod
    def of(cls, arguments: argparse.Namespace, board: Board, folder: Path, cache: Path) -> Request:
        """From the command line; paths are made absolute, since Buildroot works from its own folder."""
        paths = {
            name: value.absolute() if (value := getattr(arguments, name)) else None
            for name in ("buildroot", "trust", "base")
        }
        dev, release = arguments.dev, arguments.release
        return cls(board=board, folder=folder, cache=cache, dev=dev, release=release, **paths)

    @property
    def version(self) -> str:
        """`2026.12.1` for a release, else `0.1.0`, `0.1.0-dev` or `0.1.0-dirty`; what the image says of itself."""
        if self.release is not None:
            return self.release
        with (ROOT / "firmware" / "pyproject.toml").open("rb") as file:
            number = str(tomllib.load(file)["project"]["version"])
        if self.dev:
            return f"{number}-dev"
        return f"{number}-dirty" if _changed() else number

    def refuse(self) -> None:
        """ImageError for what must not, or cannot, be built."""
        if self.trust is None and not self.dev:
            raise ImageError(
                "no TRUST: a box of this image could join no department. TRUST=DIR is the trust folder that "
                "`vigie-department init` makes; DEV=1 builds a developer's image without one."
            )
        if self.trust is not None:
            missing = [name for name in TRUST_FILES if not (self.trust / name).is_file()]
            if missing:
                raise ImageError(
                    f"TRUST={self.trust}: {', '.join(missing)} missing; is it the department's trust/? "
                    "`vigie-ota keys create --trust` adds rauc.pem."
                )
            private = [path.name for path in self.trust.iterdir() if b"PRIVATE KEY" in path.read_bytes()[:65536]]
            if private:
                raise ImageError(
                    f"TRUST={self.trust}: {', '.join(private)} holds a private key. That is no trust folder."
                )
        if self.base is not None and not (self.base.is_file() and self.base.with_suffix(".img").is_file()):
            raise ImageError(
                f"BASE={self.base}: wanted a base file (.vgb) with its image (.img) beside it: "
                f"`vigie base apply {self.base} --image {self.base.with_suffix('.img')}` makes it"
            )
        if self.release is not None:
            if not RELEASE.fullmatch(self.release):
                raise ImageError(f"RELEASE={self.release}: YEAR.MONTH.N without leading zeros, such as 2026.12.1")
            if self.dev:
                raise ImageError("RELEASE with DEV=1: a developer's image has a shell, it is for no town hall")
            if _changed():
                raise ImageError("RELEASE: files of this checkout are changed; a release is built from a commit")
        place = self.folder if self.folder.exists() else ROOT
        free = shutil.disk_usage(place).free >> 30
        if free < NEED_GIB and not (self.folder / self.board.name / "images").exists():
            raise ImageError(f"{place}: {free} GiB free, a build takes about {NEED_GIB}. VIGIE_IMAGE_DIR moves it.")

    def environment(self) -> dict[str, str]:
        """For Buildroot and the scripts that it calls. An image's time is that of this commit: Buildroot's own would be
        months older, and a box without a clock starts from it."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH") or buildroot.git_output(ROOT, ["log", "-1", "--format=%ct"])
        dated = {"SOURCE_DATE_EPOCH": epoch} if epoch else {}
        return {"VIGIE_VERSION": self.version, "VIGIE_BOARD": self.board.name, **dated}

    def local(self) -> str:
        """The part of the configuration that is about this machine and this department, and is committed nowhere."""
        lines = {
            "BR2_DL_DIR": self.cache / "dl",
            "BR2_CCACHE_DIR": self.cache / "ccache",
            "BR2_VIGIE_TRUST": self.trust,
            "BR2_VIGIE_BASE": self.base,
        }
        return "BR2_CCACHE=y\n" + "".join(f'{name}="{path}"\n' for name, path in lines.items() if path)


def _changed() -> bool:
    return bool(buildroot.git_output(ROOT, ["status", "--porcelain", "--untracked-files=no"]))


def build(request: Request) -> None:
    """Configure, prove, build, prove, collect."""
    board = request.board
    checkout = _checkout(request.buildroot, request.folder)
    tree = Tree(checkout, request.folder / board.name, request.environment())
    defconfig = request.folder / f"{board.name}_defconfig"
    parts = buildroot.dev_parts(board) if request.dev else [board.path]
    buildroot.write_defconfig(defconfig, *parts, request.local())
    (request.cache / "dl").mkdir(parents=True, exist_ok=True)
    say(f"{board.name} {request.version}: configuring in {tree.output}")
    tree.output.mkdir(parents=True, exist_ok=True)
    with (tree.output / "configure.log").open("w") as log:
        tree.make(f"BR2_DEFCONFIG={defconfig}", "defconfig", log=log)
    expected = [defconfig] if request.dev else [defconfig, buildroot.RELEASE_EXPECT]
    prove(tree.output, expected, built=False)
    say("building; the first time takes hours, most of them for the compiler of the data path")
    tree.make()
    prove(tree.output, expected, built=True)
    made = image_outputs.collect(
        image_outputs.Job(
            tree=tree,
            board=board.name,
            version=request.version,
            dev=request.dev,
            out=request.folder / "out",
            downloads=request.cache / "dl",
            trust=request.trust,
        )
    )
    for path in made:
        print(path)


def prove(output: Path, files: Sequence[Path], *, built: bool) -> None:
    """ImageError with every lost option."""
    lost, count = check_options.check_output(output, files, built=built)
    if lost:
        raise ImageError("options did not survive:\n" + "\n".join(f"  {one}" for one in lost))
    say(f"{count} options asked for, {count} in force")


def need_tools(tools: Mapping[str, str]) -> None:
    """All that is missing, at once, and the command that installs it."""
    missing = {name: package for name, package in tools.items() if shutil.which(name) is None}
    if missing:
        raise ImageError(
            f"missing: {', '.join(missing)}\n  Debian, Ubuntu: apt install {' '.join(sorted(set(missing.values())))}"
        )


def _checkout(given: Path | None, folder: Path) -> Path:
    if given is not None:
        buildroot.verify(given.absolute())
        return given.absolute()
    checkout = folder / f"buildroot-{buildroot.TAG}"
    buildroot.fetch(checkout, os.environ.get("BUILDROOT_URL") or buildroot.URL)
    return checkout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="the firmware image")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--board", default="cm4", help=", ".join(buildroot.BOARDS))
    common.add_argument("--buildroot", type=Path, metavar="DIR", help=f"a checkout of {buildroot.TAG}")
    image = commands.add_parser("build", parents=[common], help="configure, build, collect")
    image.add_argument("--trust", type=Path, metavar="DIR", help="the department's public keys and domain")
    image.add_argument("--base", type=Path, metavar="FILE", help="the base that is in force before the first update")
    image.add_argument("--dev", action="store_true", help="a shell on the console; never for a town hall")
    image.add_argument("--release", metavar="VERSION", help="YEAR.MONTH.N: an update bundle may be made of it")
    target = commands.add_parser("br", parents=[common], help="a target of Buildroot")
    target.add_argument("targets", nargs="+", metavar="TARGET")
    return parser


if __name__ == "__main__":
    sys.exit(main())
