"""The data path in the kernel, seen from Python: loading, images, epoch, counters, attachment.

Maps are pinned under `<pin dir>/v<layout>/`, programs are held by tc: when the daemon dies nothing changes for
traffic, and the next one finds flows, images and settings where they were.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import REASON_COUNT, Reason
from vigie.errors import BpfError, ImageError, LayoutError, UsageError
from vigie.filter import abi
from vigie.filter.control import Control
from vigie.filter.flowcache import FlowCache, Flows, Holds
from vigie.filter.imagepins import ImagePins
from vigie.filter.libbpf import (
    BPF_F_INNER_MAP,
    BPF_F_MMAPABLE,
    TYPE_ARRAY,
    BpfObject,
    Map,
    Program,
    possible_cpus,
)
from vigie.filter.ring import RingReader
from vigie.filter.tables import Tables
from vigie.host.tc import Hook, Tc, TcAttacher

DEFAULT_PIN_DIR: Final = Path("/sys/fs/bpf/vigie")
IMAGE_PAGES_MAX: Final = 1 << 16
INGRESS_PROGRAM: Final = "vigie_ingress"
OWN_PROGRAM: Final = "vigie_own"


@runtime_checkable
class ImageWriter(Protocol):
    """An image that is written straight into the kernel's memory (`vigie.filter.base.image.ImagePlan`)."""

    @property
    def nbytes(self) -> int:
        """Size, whole pages."""

    def write(self, out: memoryview) -> None:
        """Fill `out`, `nbytes` zeroed bytes."""


@dataclass(frozen=True, slots=True)
class ImageLoad:
    """What `load_image` did. Seconds since its start: `visible_s` when the data path used the new image."""

    serial: int
    pages: int
    slot: int
    fill_s: float
    visible_s: float
    total_s: float
    name_key_changed: bool


def layout_dir(pin_dir: Path) -> Path:
    """Where the maps of this layout are pinned."""
    return pin_dir / f"v{abi.LAYOUT_VERSION}"


def other_layouts(pin_dir: Path) -> dict[int, Path]:
    """Layout version -> folder of pinned maps, for every layout but this program's."""
    if not pin_dir.is_dir():
        return {}
    found = ((re.fullmatch(r"v(\d{1,6})", p.name), p) for p in pin_dir.iterdir())
    return {int(m[1]): p for m, p in found if m and int(m[1]) != abi.LAYOUT_VERSION}


class DataPath:
    """A loaded object with the maps of layout.h.

    control: the numpy record; `settings` its checked setters. flows: numpy rows of the cache; `cache` its operations,
    mapped at first use (32 MB that count as the process's own as soon as they are mapped) until `release_cache`.
    tables: exceptions, quarantine and the other small tables.
    """

    def __init__(self, obj: BpfObject, tc: TcAttacher | None = None, pins: ImagePins | None = None) -> None:
        missing = [name for name in abi.MAPS if name not in obj.maps]
        if missing:
            raise BpfError(f"{obj.path}: maps {', '.join(missing)} are missing: is it the filter, and loaded?")
        self.object = obj
        self.maps: dict[str, Map] = obj.maps
        self.programs: dict[str, Program] = obj.programs
        self._tc = tc or Tc()
        self._pins = pins or ImagePins(None)
        for name, (key, value) in abi.MAPS.items():
            map_ = self.maps[name]
            if key is not None and key.itemsize != map_.key_size:
                raise LayoutError(f"map {name}: keys of {map_.key_size} bytes, {key.itemsize} expected")
            if value is not None and value.itemsize != map_.value_size:
                raise LayoutError(f"map {name}: values of {map_.value_size} bytes, {value.itemsize} expected")
        self.settings = Control(self.maps["control"])
        self._cache: FlowCache | None = None
        self.state: np.void = np.frombuffer(self.maps["state"].mmap(), dtype=abi.STATE, count=1)[0]
        self.tables = Tables(self.maps, self.settings)
        self._cpus = possible_cpus()
        self._scratch = Map.create(TYPE_ARRAY, "image_scratch", 4, abi.PAGE_BYTES, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP)
        self._drop_idle_images()

    @classmethod
    def open(
        cls,
        path: Path,
        pin_dir: Path | None = None,
        *,
        sizes: Mapping[str, int] | None = None,
        tc: TcAttacher | None = None,
    ) -> DataPath:
        """Load the object at `path`.

        pin_dir: a directory on a bpffs; maps pinned there under this layout are used again. None: a private instance
        (replay, tests) that vanishes with it. sizes: entries of maps other than compiled in, for tests.
        """
        obj = BpfObject.open(path)
        for name, count in (sizes or {}).items():
            obj.set_max_entries(name, count)
        obj.load(layout_dir(pin_dir) if pin_dir else None, abi.MAPS)
        return cls(obj, tc, ImagePins(layout_dir(pin_dir) if pin_dir else None))

    def close(self) -> None:
        """Give the descriptors back; what is attached and pinned goes on."""
        self._scratch.close()
        self.object.close()

    # -- shared records

    @property
    def cache(self) -> FlowCache:
        """The flow cache."""
        if self._cache is None:
            self._cache = FlowCache(self.maps["flows"], self.maps["flow_tags"], self.settings)
        return self._cache

    def holds(self) -> Holds:
        """What answers holds (one per process; 4 MB more that count as its own)."""
        return Holds(self.maps["holds"], self.cache)

    def release_cache(self) -> None:
        """Lets the mapping of the flow cache go, unless somebody holds rows of it."""
        self._cache = None

    @property
    def control(self) -> np.void:
        """The control record on the shared memory. Writing it by hand does not bump the epoch."""
        return self.settings.record

    @property
    def flows(self) -> Flows:
        """All entries of the flow cache on the shared memory, dtype `abi.FLOW`."""
        return self.cache.rows

    def flows_snapshot(self) -> Flows:
        """Consistent copies of the entries in use."""
        return self.cache.snapshot()

    def adopt_openers(self, openers: npt.NDArray[np.uint64], flow_seed: int) -> bool:
        """Take over the memory of openers (shape (INIT_COUNT,)) together with the seed of its hashes.

        False, and nothing is done, once this cache holds flows hashed with another seed.
        """
        if int(self.control["flow_seed"]) != flow_seed:
            if np.any(self.flows["tag"]):
                return False
            self.control["flow_seed"] = flow_seed
        rows = np.frombuffer(self.maps["openers"].mmap(), dtype=np.uint64, count=abi.INIT_COUNT)
        np.copyto(rows, openers, where=rows == 0)  # what this data path has seen itself is newer
        return True

    def bump(self) -> None:
        """New policy epoch."""
        self.settings.bump()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Several changes of tables and settings, one new epoch at the end."""
        with self.settings.batch():
            yield

    def heartbeat(self) -> None:
        """The daemon is alive."""
        self.settings.heartbeat()

    def events(self) -> RingReader:
        """A reader of the `events` ring (one per process)."""
        return RingReader(self.maps["events"])

    def held(self) -> RingReader:
        """A reader of the `held` ring (one per process)."""
        return RingReader(self.maps["held"])

    def counters(self) -> dict[Reason, tuple[int, int]]:
        """(packets, bytes) per reason, summed over CPUs, where not zero."""
        _, raw = self.maps["counters"].read_all()
        table = np.frombuffer(raw, dtype=np.uint64).reshape(REASON_COUNT, self._cpus, 2).sum(axis=1)
        return {r: (int(table[r, 0]), int(table[r, 1])) for r in Reason if table[r, 0]}

    def last_decision(self, cpu: int | None = None) -> npt.NDArray[np.void]:
        """The last decision on `cpu` (dtype `abi.DECISION`, shape ()), or of every CPU (shape (cpus,))."""
        raw = self.maps["decision"].lookup(0)
        if raw is None:
            raise BpfError("map decision is empty")
        table = np.frombuffer(raw, dtype=abi.DECISION)
        return table if cpu is None else table[cpu : cpu + 1].reshape(())

    def clear_decisions(self) -> None:
        """Zero the last decisions, so that a test sees whether one was made."""
        self.maps["decision"].update(0, bytes(self.maps["decision"].value_bytes))

    # -- images

    def _slots(self, kind: int) -> tuple[int, int]:
        """(slot in use, idle slot) of a kind, by the generation."""
        _, geo, base = abi.gen_parts(self.settings.gen)
        first, current = (0, base) if kind == abi.KIND_BASE else (2, geo)
        return first + current, first + (1 - current)

    def _image(self, slot: int) -> Map | None:
        return self._pins.open(self.maps["images"], slot)

    def image_header(self, kind: int = abi.KIND_BASE) -> npt.NDArray[np.void] | None:
        """Header of the image in force (dtype `abi.IMAGE_HEADER`, shape ()), or None when none is loaded."""
        image = self._image(self._slots(kind)[0])
        if image is None:
            return None
        page = image.lookup(0)
        image.close()
        return None if page is None else abi.unpack(abi.IMAGE_HEADER, page)

    def image_map(self, kind: int = abi.KIND_BASE) -> Map | None:
        """The image in force as a map, one page per value; it lives on after a swap, as long as it is held."""
        return self._image(self._slots(kind)[0])

    def image_bytes(self, kind: int = abi.KIND_BASE) -> memoryview | None:
        """The image in force as shared memory; it stays readable after a swap, as long as it is held."""
        image = self._image(self._slots(kind)[0])
        return None if image is None else image.mmap()

    def name_hash(self, name: str | bytes) -> int:
        """Hash of a DNS name under the key of the base in force. BpfError while none is loaded."""
        header = self.image_header()
        if header is None:
            raise BpfError("no base is loaded: names have no hash yet")
        return abi.name_hash(name, int(header["name_key"]), int(header["name_seed"]))

    def load_image(self, kind: int, image: bytes | bytearray | memoryview | ImageWriter) -> ImageLoad:
        """Put an image into force: fill the idle slot, flip the generation, wait for running programs, drop the old.

        ImageError (malformed) or BpfError (memory) leave the image in force as it was.
        """
        start = time.perf_counter()
        if kind not in (abi.KIND_BASE, abi.KIND_GEO):
            raise UsageError(f"an image is of kind {abi.KIND_BASE} (base) or {abi.KIND_GEO} (geo), not {kind}")
        size = len(image) if isinstance(image, bytes | bytearray) else image.nbytes
        if size % abi.PAGE_BYTES or not 2 <= size // abi.PAGE_BYTES <= IMAGE_PAGES_MAX:
            raise ImageError(f"an image of {size} bytes: 2 to {IMAGE_PAGES_MAX} whole pages are needed")
        pages = size // abi.PAGE_BYTES
        inner = Map.create(
            TYPE_ARRAY, f"image_{'geo' if kind else 'base'}", 4, abi.PAGE_BYTES, pages, BPF_F_MMAPABLE | BPF_F_INNER_MAP
        )
        try:
            memory = inner.mmap()
            if isinstance(image, bytes | bytearray | memoryview):
                memory[:] = memoryview(image).cast("B")
            else:
                image.write(memory)
            header = check_image(memory, kind)
            before = self.image_header(kind)
            filled = time.perf_counter()
            current, idle = self._slots(kind)
            images = self.maps["images"]
            self._pins.keep(idle, inner)
            images.update_fd(idle, inner)
            counter, geo, base = abi.gen_parts(self.settings.gen)
            slot = idle & 1
            geo, base = (slot, base) if kind == abi.KIND_GEO else (geo, slot)
            self.settings.set_gen(abi.gen_join(counter + 1, geo, base))
            visible = time.perf_counter()
            images.update_fd(abi.IMAGE_SCRATCH, self._scratch)  # returns when no program can hold the old generation
            images.delete(current)
            self._pins.drop(current)
        finally:
            inner.close()
        key = ("name_key", "name_seed")
        changed = before is None or any(int(before[k]) != int(header[k]) for k in key)
        return ImageLoad(int(header["serial"]), pages, idle, filled - start, visible - start,
                         time.perf_counter() - start, changed)  # fmt: skip

    def _drop_idle_images(self) -> None:
        """Free what a daemon killed in the middle of a swap left in the idle slots."""
        for kind in (abi.KIND_BASE, abi.KIND_GEO):
            idle = self._slots(kind)[1]
            if self.maps["images"].lookup(idle) is not None:
                self.maps["images"].update_fd(abi.IMAGE_SCRATCH, self._scratch)
                self.maps["images"].delete(idle)
            self._pins.drop(idle)

    # -- attachment

    def attach(self, port0: str, port1: str, bridge: str) -> None:
        """Put the programs on both ports and on the bridge, in place of what hangs there from an earlier start.

        Each replacement is atomic. Sets the ports of `control` first.
        """
        links = [self._tc.link(name) for name in (port0, port1)]
        self.settings.set_ports([link.index for link in links], [link.mtu for link in links])
        for link in links:
            self._tc.attach(Hook(link.index, ingress=True), self.programs[INGRESS_PROGRAM].fd, INGRESS_PROGRAM)
        own = self._tc.link(bridge)
        self._tc.attach(Hook(own.index, ingress=False), self.programs[OWN_PROGRAM].fd, OWN_PROGRAM)

    def attached(self, port0: str, port1: str, bridge: str) -> bool:
        """True when exactly these programs hang on the three hooks."""
        hooks = [Hook(self._tc.link(name).index, ingress=True) for name in (port0, port1)]
        hooks.append(Hook(self._tc.link(bridge).index, ingress=False))
        ingress, own = (self.programs[name].stats().id for name in (INGRESS_PROGRAM, OWN_PROGRAM))
        return [self._tc.attached(hook) for hook in hooks] == [ingress, ingress, own]

    def detach(self, port0: str, port1: str, bridge: str) -> None:
        """Take the programs off: from then on the bridge forwards everything."""
        for name, ingress in ((port0, True), (port1, True), (bridge, False)):
            self._tc.detach(Hook(self._tc.link(name).index, ingress=ingress))


def check_image(memory: memoryview, kind: int) -> npt.NDArray[np.void]:
    """The header of an image after a look at its shape: magic, kind, size, sections inside. ImageError otherwise."""
    header = abi.unpack(abi.IMAGE_HEADER, bytes(memory[: abi.IMAGE_HEADER.itemsize]))
    pages = len(memory) // abi.PAGE_BYTES
    if int(header["magic"]) != abi.IMAGE_MAGIC:
        raise ImageError(f"image magic {int(header['magic']):#x}, {abi.IMAGE_MAGIC:#x} expected")
    if int(header["kind"]) != kind:
        raise ImageError(f"an image of kind {int(header['kind'])} offered as kind {kind}")
    if int(header["pages"]) != pages:
        raise ImageError(f"the image says {int(header['pages'])} pages and has {pages}")
    for name in abi.SECTION_NAMES:
        page, count = int(header[name]["page"]), int(header[name]["count"])
        size = np.dtype(abi.SECTION_TYPES[name]).itemsize
        if count and (page < 2 or page * abi.PAGE_BYTES + count * size > len(memory)):
            raise ImageError(f"section {name} ({count} elements from page {page}) is outside the image")
    return header
