"""The image header is the one of layout.h (through `vigie.filter.abi`, which is compared with the C headers)."""

from __future__ import annotations

import numpy as np
import pytest

from vigie.errors import ImageError
from vigie.filter import abi
from vigie.filter.base import imageformat, model
from vigie.filter.base.image import bucket_bits, build_image, write_index
from vigie.filter.base.model import Base, ClassEntry
from vigie.filter.base.names import name_keys


def image() -> bytearray:
    return bytearray(build_image(Base(9, 0, *name_keys())))


def test_header_is_the_one_of_the_kernel() -> None:
    data = image()
    ours = imageformat.Header.unpack(data)
    theirs = np.frombuffer(data, abi.IMAGE_HEADER, 1)[0]
    assert abi.IMAGE_HEADER.itemsize == imageformat.HEADER_BYTES
    assert int(theirs["magic"]) == imageformat.IMAGE_MAGIC
    for field in ("pages", "kind", "name_key", "name_seed", "shift4", "shift6", "shift_name", "serial"):
        assert int(theirs[field]) == getattr(ours, field), field
    for name, section in ours.sections.items():
        assert (int(theirs[name]["page"]), int(theirs[name]["count"])) == (section.page, section.count), name
    assert bytes(theirs["digest"]) == ours.digest
    assert tuple(imageformat.SECTIONS) == tuple(abi.SECTION_NAMES)


def test_class_flags_are_those_of_the_kernel() -> None:
    assert (model.CLASS_NEVER, model.CLASS_PORTS, model.CLASS_FORCE) == (1, 2, 4)
    entry = ClassEntry(5, category=model.Category.SCAM, rank=3)
    assert ClassEntry.unpack(entry.pack()) == entry
    with pytest.raises(ValueError, match="rank 200"):
        ClassEntry.unpack(bytes((0, 0, 0, 0, 200)) + bytes(11))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [(0, 1, "magic"), (4, 9, "layout 9"), (8, 1, "pages"), (8, 4000, "pages"), (48, 9999, "outside")],
)
def test_malformed_images_are_refused(at: int, value: int, words: str) -> None:
    data = image()
    data[at : at + 4] = value.to_bytes(4, "little")
    with pytest.raises(ImageError, match=words):
        imageformat.Header.unpack(data)


def test_an_altered_image_does_not_verify() -> None:
    data = image()
    data[-1] ^= 1
    with pytest.raises(ImageError, match="digest"):
        imageformat.verify_image(data)
    with pytest.raises(ImageError, match="shorter"):
        imageformat.verify_image(data[:5000])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000, 1_000_000, 50_000_000])
def test_buckets_are_small_and_shifts_never_the_whole_width(count: int) -> None:
    bits = bucket_bits(count)
    assert 1 <= bits <= 22
    if 16 <= count <= 1 << 23:
        assert 2 <= count / (1 << bits) <= 4


def test_index_gives_the_first_element_of_each_bucket() -> None:
    keys = np.array([0, 1, 1 << 30, (1 << 30) + 5, 0xFFFFFFFF], np.uint32)
    index = np.full(5, 77, np.uint32)
    write_index(keys, 30, index)
    assert index.tolist() == [0, 2, 4, 4, 5]
