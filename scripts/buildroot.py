"""The Buildroot that images are made with: which one, where it lies, and how it is asked.

Only the standard library: an image is built on machines that have no checkout set up.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

ROOT: Final = Path(__file__).resolve().parents[1]
TAG: Final = "2026.02.3"
COMMIT: Final = "679b9ead7620bbf193620d1ebf56f53c1764d37a"
# `BUILDROOT_URL` names a mirror; the commit decides, not the server.
URL: Final = "https://gitlab.com/buildroot.org/buildroot.git"


class ImageError(Exception):
    """An image cannot be made or checked; the message says what is missing and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """One board: the word after BOARD=, and its configuration below configs/."""

    name: str
    defconfig: str

    @property
    def path(self) -> Path:
        return ROOT / "configs" / self.defconfig


BOARDS: Final[Mapping[str, Board]] = {
    board.name: board for board in (Board("cm4", "vigie_cm4_defconfig"), Board("qemu", "vigie_qemu_aarch64_defconfig"))
}
DEV_FRAGMENT: Final = ROOT / "configs" / "fragments" / "dev.config"
RELEASE_EXPECT: Final = ROOT / "configs" / "release.expect"
KERNEL_EXPECT: Final = ROOT / "board" / "common" / "linux.expect"


def board(name: str) -> Board:
    """Raises ImageError for a board that does not exist."""
    try:
        return BOARDS[name]
    except KeyError:
        raise ImageError(f"BOARD={name}: no such board. There are: {', '.join(BOARDS)}.") from None


def verify(checkout: Path) -> None:
    """The checkout is the pinned commit, unchanged; else ImageError."""
    if not (checkout / "Makefile").is_file() or not (checkout / "package" / "Config.in").is_file():
        raise ImageError(f"{checkout}: no Buildroot there. Leave BUILDROOT_DIR away to have {TAG} fetched.")
    head = _git(checkout, "rev-parse", "HEAD")
    if head != COMMIT:
        raise ImageError(
            f"{checkout}: commit {head or 'unknown (not a git checkout)'}, wanted {COMMIT} (tag {TAG}). "
            f"Check that tag out, or leave BUILDROOT_DIR away."
        )
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    if changed:
        raise ImageError(f"{checkout}: files were changed, so an image of it could not be made again:\n{changed}")


def fetch(checkout: Path, url: str) -> None:
    """Clones the tag, one commit deep, beside and then into place; a clone of before is kept if it is the right one."""
    if checkout.is_dir():
        verify(checkout)
        return
    beside = checkout.with_name(checkout.name + ".part")
    subprocess.run(["rm", "-rf", str(beside)], check=True)
    checkout.parent.mkdir(parents=True, exist_ok=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "--branch", TAG, url, str(beside)]
    say(f"Buildroot {TAG} from {url}")
    if subprocess.run(["git", "-c", "advice.detachedHead=false", *command[1:]], check=False).returncode:
        raise ImageError(
            f"Buildroot {TAG} cannot be fetched from {url}. BUILDROOT_URL names a mirror, BUILDROOT_DIR a checkout "
            "that is already here."
        )
    verify(beside)
    beside.rename(checkout)


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """A checkout, with this repository as its external tree and one output folder."""

    checkout: Path
    output: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """argv of `make` for these targets and variables."""
        return ["make", "-C", str(self.checkout), f"O={self.output}", f"BR2_EXTERNAL={ROOT}", *arguments]

    def make(self, *arguments: str, log: TextIO | None = None) -> None:
        """Runs it where the person sees it, or into `log`; ImageError when it fails."""
        command = self.command(*arguments)
        done = subprocess.run(
            command, env=self.env(), stdout=log, stderr=subprocess.STDOUT if log else None, check=False
        )
        if done.returncode:
            raise ImageError(f"failed ({done.returncode}): {' '.join(command)}")

    def read(self, *arguments: str) -> str:
        """What it prints; ImageError, with what it complained of, when it fails."""
        command = self.command("-s", *arguments)
        done = subprocess.run(command, env=self.env(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImageError(f"failed ({done.returncode}): {' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def env(self) -> dict[str, str]:
        """This process's, without what would change a build, and with what some recipes insist on as root."""
        keep = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BR2_", "MAKE", "MFLAGS", "PYTHON"))
            and name not in ("O", "V", "CC", "CFLAGS", "LDFLAGS")
        }
        if os.geteuid() == 0:
            keep["FORCE_UNSAFE_CONFIGURE"] = "1"
        return {**keep, **self.environment}


def dev_parts(board: Board) -> list[Path | str]:
    """A board's configuration with what a developer's image adds; its overlay comes after the board's."""
    mine = next(line for line in board.path.read_text().splitlines() if line.startswith("BR2_ROOTFS_OVERLAY="))
    return [board.path, DEV_FRAGMENT, mine.removesuffix('"') + ' $(BR2_EXTERNAL_VIGIE_PATH)/overlays/dev"']


def write_defconfig(path: Path, *parts: Path | str) -> None:
    """One file of several (a later line wins); strings are lines as they are."""
    text = "".join((part.read_text() if isinstance(part, Path) else part).rstrip("\n") + "\n" for part in parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def say(text: str) -> None:
    """Progress, on stderr: stdout is for results."""
    print(f"» {text}", file=sys.stderr, flush=True)


def git_output(folder: Path, arguments: Sequence[str]) -> str:
    """`git` in a folder that may belong to somebody else; empty when it fails."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _git(folder: Path, *arguments: str) -> str:
    # A folder without .git inside another repository would answer for that one.
    return git_output(folder, arguments) if (folder / ".git").exists() else ""
