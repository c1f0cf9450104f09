"""Images in force, found again by whoever comes later: each is pinned beside the map of images, as `image_<slot>`.

The map of images only tells an image's kernel number, and to open a map by its number needs CAP_SYS_ADMIN, which the
daemon has not. A pin left by a swap that was cut short says nothing: the number decides. It would keep memory, so it
goes with its slot.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from vigie.errors import BpfError
from vigie.filter.bpfmap import Map


class ImagePins:
    """Pins of one layout's images in `folder`; None: a private data path (replay, tests), whose owner is root."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def open(self, images: Map, slot: int) -> Map | None:
        """The image in a slot of the map of images, None when the slot is empty. Raises BpfError."""
        raw = images.lookup(slot)
        return self.by_number(int.from_bytes(raw[:4], sys.byteorder), slot) if raw else None

    def by_number(self, number: int, slot: int) -> Map:
        """The image of that kernel number, in the slot or on its way out of it. Raises BpfError."""
        with contextlib.suppress(BpfError):
            if self._folder is not None:
                found = Map.pinned(self._folder / f"image_{slot}")
                if found.id == number:
                    return found
                found.close()
        return Map.by_id(number, f"images[{slot}]")

    def keep(self, slot: int, image: Map) -> None:
        """Before an image goes into a slot. Raises BpfError."""
        if self._folder is not None:
            self.drop(slot)
            image.pin(self._folder / f"image_{slot}")

    def drop(self, slot: int) -> None:
        """Once a slot is empty: the memory is given back."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / f"image_{slot}").unlink(missing_ok=True)
