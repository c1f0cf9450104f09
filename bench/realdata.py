"""Real feeds and captures for benchmarks: the base compiled from all feeds, the captures unpacked for a while."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vigie.errors import HostError
from vigie.filter.base import allowlists, lists, protect
from vigie.filter.base.compile import CompileReport, compile_feeds
from vigie.filter.base.feeds import feeds_of
from vigie.filter.base.model import Base
from vigie.filter.base.suffixes import Suffixes

ROOT = Path(__file__).parents[1]
OBJECT = ROOT / "firmware" / "bpf" / "build" / "filter.bpf.o"
KINDS = ("benign", "malicious")


def data_dir() -> Path:
    """Folder of real data: VIGIE_DATA, else ../shared/data beside the repository. HostError when there is none."""
    path = Path(os.environ.get("VIGIE_DATA") or ROOT.parent / "shared" / "data")
    if not (path / "captures.tar.xz").is_file():
        raise HostError(f"{path}: captures.tar.xz is not there; VIGIE_DATA names the folder of real feeds and captures")
    return path


@contextlib.contextmanager
def captures(data: Path) -> Iterator[dict[str, list[Path]]]:
    """Labelled captures by kind, in a folder that vanishes. They hold malware bytes: data, never run."""
    with tempfile.TemporaryDirectory(prefix="vigie-captures-") as name:
        folder = Path(name)
        with tarfile.open(data / "captures.tar.xz") as tar:
            tar.extractall(folder, filter="data")
        yield {
            kind: sorted(p for p in (folder / "pcaps" / kind).iterdir() if p.suffix in (".pcap", ".pcapng"))
            for kind in KINDS
        }


def full_base(data: Path) -> tuple[Base, CompileReport]:
    """All feeds of the folder, with every protection that a department's compilation has except live DNS."""
    warning = data / "geo" / "allowlists"
    suffixes = data / "geo" / "psl" / "public_suffix_list.dat.xz"
    protection = protect.build(
        lists.built_in(),
        lists.never_block(),
        allowlists=allowlists.load(warning) if warning.is_dir() else None,
        suffixes=Suffixes.load(suffixes) if suffixes.is_file() else None,
    )
    return compile_feeds(feeds_of([data / "feeds"]), protection, serial=1, created=0)
