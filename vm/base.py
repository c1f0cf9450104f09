"""The base that the virtual board leaves the workshop with: compiled from the sample feeds, as the lab's box has it."""

from __future__ import annotations

import os
from pathlib import Path

from lab import base
from vigie.filter.base.basefile import load_base
from vigie.filter.base.image import build_image
from vm.tools import BUILD, ROOT, digest

SAMPLE = ROOT / "tests" / "data"


def sample_bases() -> base.Bases:
    """The lab's bases, from the feeds that come with the repository: a million indicators are no test of a start."""
    os.environ["VIGIE_DATA"] = str(SAMPLE)
    return base.compile_bases(lambda _text: None)


def sample_base() -> Path:
    """base.vgb with base.img beside it."""
    plain = sample_bases().plain
    folder = BUILD / "base" / digest(plain)
    if not (folder / "base.img").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "base.vgb").write_bytes(plain.read_bytes())
        partial = folder / "base.img.partial"
        partial.write_bytes(build_image(load_base(plain)))
        partial.rename(folder / "base.img")
    return folder / "base.vgb"
