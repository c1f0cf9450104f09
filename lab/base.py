"""The toxic base of the lab, from real feeds (or the sample in tests/data), and the indicators taken from it."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from lab import plan
from lab.errors import LabError
from lab.topology import ROOT
from vigie.contract.codes import Action, Direction
from vigie.filter.base.basefile import load_base
from vigie.filter.base.image import build_image
from vigie.filter.base.known import guess
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.readers.source import unfold

CACHE = ROOT / "build" / "lab"
COMPILE_S = 240.0
KEPT_S = 3600.0
NAMES = 3
NAME = re.compile(r"[a-z0-9-]{1,20}\.[a-z]{2,6}")
WORD = re.compile(r"[0-9a-z.:-]{4,64}")
PREFERRED = ("c2", "threatfox", "phish", "zeek")
SAMPLE = ROOT / "tests" / "data" / "feeds"
DELIVERED = 1
"""version of the base that boxes leave the workshop with; the department's own come after"""
EXTRA6 = "2a0e:b107:178::66"
OWN_FEED = """\
version: 1
feeds:
  - name: {name}
    file: {name}.txt
    category: c2
    direction: both
    action: block
    source: the lab's own scenario
    licence: EUPL-1.2
    redistributable: true
"""


@dataclass(frozen=True, slots=True)
class Bases:
    """`plain` is what a box is delivered with; `with_vendor` also lists the camera vendor's addresses.

    sources: what `plain` was compiled from, and what the department publishes.
    """

    feeds: Path
    sources: tuple[Path, ...]
    plain: Path
    with_vendor: Path


def feeds_folder() -> Path:
    """Real feeds when present, else the sample that comes with the repository."""
    data = Path(os.environ.get("VIGIE_DATA", ROOT.parent / "shared" / "data"))
    return data / "feeds" if (data / "feeds").is_dir() else SAMPLE


def compile_bases(tell: Callable[[str], None]) -> Bases:
    """Compile both bases with `vigie base compile`; cached under the digest of feeds, policy data and compiler."""
    feeds = feeds_folder()
    digest = _digest([feeds, Path(__file__), ROOT / "firmware/src/vigie/filter/base", ROOT / "firmware/src/vigie/data"])
    folder = CACHE / digest
    with _alone():
        _prune(keep=folder)
        folder.mkdir(exist_ok=True)
        # Feeds seldom list an IPv6 address that is refused both ways.
        sources = (*_published(feeds), own_feed(folder, "lab-ipv6", EXTRA6))
        bases = Bases(feeds, sources, folder / "base.vgb", folder / "with-vendor.vgb")
        vendor = own_feed(folder, "lab-vendor", plan.VENDOR.v4, plan.VENDOR.v6)
        for version, path, more in ((DELIVERED, bases.plain, []), (DELIVERED + 1, bases.with_vendor, [vendor])):
            if not path.exists():
                tell(f"compiling {path.name} from {feeds} ...")
                _compile([*sources, *more], path, version)
    return bases


def _published(feeds: Path) -> Iterator[Path]:
    """A described feed set, else the files that the department may pass on: their names tell."""
    described = feeds / "feeds.yaml"
    if described.exists():
        yield described
        return
    for path in sorted(path for path in feeds.rglob("*") if path.is_file()):
        found = [feed for feed, _ in guess(path)]
        if found and all(feed.redistributable and feed.licence for feed in found):
            yield path


@contextmanager
def _alone() -> Iterator[None]:
    """One lab at a time compiles; another waits and finds the work done."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(keep: Path) -> None:
    """Bases of other feeds or compilers, unless a lab may still be running on them."""
    for path in CACHE.iterdir():
        if path.is_dir() and path != keep and time.time() - path.stat().st_mtime > KEPT_S:
            shutil.rmtree(path)


def own_feed(folder: Path, name: str, *addresses: str) -> Path:
    """A feed set with one plain list: what becomes toxic during the scenario."""
    (folder / f"{name}.txt").write_text("\n".join(addresses) + "\n")
    path = folder / f"{name}.yaml"
    path.write_text(OWN_FEED.format(name=name))
    return path


def _compile(feeds: list[Path], path: Path, version: int) -> None:
    vigie = Path(sys.executable).parent / "vigie"
    partial = path.with_suffix(f".{os.getpid()}")
    argv = [str(vigie), "base", "compile", *map(str, feeds), "-o", str(partial)]
    argv += ["--serial", str(version), "--for-boxes"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    partial.rename(path)


def _digest(places: Iterable[Path]) -> str:
    """Of names and contents of every file there."""
    state = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                state.update(str(path.relative_to(place)).encode() + b"\0")
                state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


def _words(folder: Path) -> Iterator[str]:
    """Everything in the feeds that looks like an address or a name; feeds of command servers and phishing first."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".tar" not in path.suffixes]
    for path in sorted(files, key=lambda path: (not any(word in str(path) for word in PREFERRED), str(path))):
        for line in unfold(path).decode("utf-8", "replace").splitlines():
            if not line.startswith(("#", ";", "!")):
                yield from WORD.findall(line.lower())


def _blocks(lookup: Lookup, number: int, *, name: bool = False) -> bool:
    """The class refuses on every port, whoever opens (names have no direction)."""
    entry = lookup.classes[number]
    both = entry.direction == Direction.BOTH
    return entry.action == Action.BLOCK and (both or name) and not entry.never and not entry.ports_only


def pick(bases: Bases) -> plan.Indicators:
    """Real indicators of the compiled base: whole-machine entries that block both ways or outward, and names.

    Also checks that the lab's clean servers are clean: a feed may list anything one day.
    """
    lookup = Lookup(build_image(load_base(bases.plain)))
    for site in (*plan.PLAIN_INDICATORS.sites[:8], plan.DEPARTMENT, plan.CENTRAL, plan.RELEASED):
        for address in (site.v4, site.v6):
            if lookup.classes[lookup.address(address)].action == Action.BLOCK:
                raise LabError(
                    f"{address} ({site.name}) is listed by {bases.feeds}: give it another address in lab/plan.py"
                )
    toxic4 = toxic6 = ""
    names: list[str] = []
    for word in chain(_words(bases.feeds), [EXTRA6]):
        if toxic4 and toxic6 and len(names) >= NAMES:
            break
        try:
            parsed = ipaddress.ip_address(word)
        except ValueError:
            if (
                len(names) < NAMES
                and word not in names
                and NAME.fullmatch(word)
                and _blocks(lookup, lookup.name(word)[1], name=True)
            ):
                names.append(word)
            continue
        if (toxic4 if parsed.version == 4 else toxic6) or not _blocks(lookup, lookup.address(word)):
            continue
        if parsed.version == 4:
            toxic4 = word
        else:
            toxic6 = word
    if toxic4 and toxic6 and names:
        return plan.Indicators(toxic4, toxic6, tuple(names))
    raise LabError(
        f"{bases.feeds}: not enough indicators: {toxic4 or 'no IPv4'}, {toxic6 or 'no IPv6'}, {len(names)} names"
    )
