"""Running other programs: argv lists, their words in the error."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vigie_ota.errors import ToolError

PACKAGES: Final = {
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "veritysetup": "cryptsetup-bin",
    "openssl": "openssl",
}
_TIMEOUT_S: Final = 3600
_SYSTEM: Final = ("/usr/sbin", "/sbin")  # not in an ordinary user's PATH on Debian


def run(argv: Sequence[str | Path], *, text: bytes = b"", passphrase: str | None = None) -> bytes:
    """What the program printed. ToolError when it is missing or fails.

    text: its standard input. passphrase: in VIGIE_PASSPHRASE, for openssl's `env:` (not visible in the process list).
    """
    words = [str(word) for word in argv]
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM])
    program = shutil.which(words[0], path=path)
    if program is None:
        raise ToolError(f"{words[0]} is missing: apt install {PACKAGES.get(words[0], words[0])}")
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    environment |= {"LC_ALL": "C", "PATH": path}
    if passphrase is not None:
        environment["VIGIE_PASSPHRASE"] = passphrase
    try:
        done = subprocess.run(
            [program, *words[1:]], input=text, capture_output=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ToolError(f"{words[0]}: {e}") from e
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ToolError(f"{' '.join(words[:3])} failed ({done.returncode}): {said[-1500:]}")
    return done.stdout
