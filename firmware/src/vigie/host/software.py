"""Which software this is: the release that the image was built as, else the version of the package."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from vigie import __version__
from vigie.contract.upward import SOFTWARE
from vigie.errors import HostError
from vigie.host.files import read_small

VERSION_FILE: Final = Path("/etc/vigie/version")
"""Written when an image is built, as VERSION_ID of os-release."""


def version(path: Path = VERSION_FILE) -> str:
    """As the department is told."""
    with contextlib.suppress(HostError, UnicodeDecodeError):
        text = (read_small(path, 256) or b"").decode("ascii").strip()
        if SOFTWARE.fullmatch(text):
            return text
    return __version__
