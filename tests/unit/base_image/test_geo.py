"""Country and AS tables against a place-by-place model, and the files that they come from."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_image.strategies import PLACES6
from vigie.errors import BaseError, ImageError
from vigie.filter.base.geo import GeoRanges, country_value, load_geo, plan_geo, read_ranges
from vigie.filter.base.image import ImagePlan, build_image
from vigie.filter.base.imageformat import verify_image
from vigie.filter.base.lookup import GeoLookup, Lookup
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys

SPACE = 40
Rows = list[tuple[int, int, int]]


@st.composite
def disjoint(draw: st.DrawFn, size: int) -> Rows:
    """(first, last, value) by index, sorted and disjoint."""
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=10)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    return [(a, b - 1, draw(st.integers(1, 9))) for a, b in pairs]


def table(rows: Rows, places: list[int], shift: int) -> GeoRanges:
    def pair(values: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([v >> 64 for v in values], np.uint64), np.array([v & (2**64 - 1) for v in values], np.uint64)

    return GeoRanges(
        pair([places[r[0]] for r in rows]),
        pair([places[r[1]] for r in rows]),
        np.array([r[2] << shift for r in rows], np.uint64),
    )


def written(plan: ImagePlan) -> bytearray:
    out = bytearray(plan.nbytes)
    plan.write(out, digest=True)
    verify_image(out)
    return out


def value_at(rows: Rows, place: int) -> int:
    return next((r[2] for r in rows if r[0] <= place <= r[1]), 0)


TOP4 = [*range(SPACE - 2), 2**32 - 2, 2**32 - 1]


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(disjoint(SPACE), disjoint(SPACE), disjoint(len(PLACES6)), disjoint(len(PLACES6)))
def test_geo_is_what_the_tables_say(country4: Rows, asn4: Rows, country6: Rows, asn6: Rows) -> None:
    image = written(
        plan_geo(
            [table(country4, TOP4, 32), table(asn4, TOP4, 0)],
            [table(country6, PLACES6, 32), table(asn6, PLACES6, 0)],
            serial=3,
        )
    )
    look = GeoLookup(image)
    got4 = look.values4(np.array(TOP4, np.uint32)).tolist()
    assert got4 == [value_at(country4, i) << 32 | value_at(asn4, i) for i in range(SPACE)]
    hi = np.array([p >> 64 for p in PLACES6], np.uint64)
    lo = np.array([p & (2**64 - 1) for p in PLACES6], np.uint64)
    wanted = [value_at(country6, i) << 32 | value_at(asn6, i) for i in range(len(PLACES6))]
    assert look.values6(hi, lo).tolist() == wanted


def folder(path: Path) -> Path:
    (path / "country").mkdir()
    (path / "asn").mkdir()
    (path / "country/x-ipv4.csv.xz").write_bytes(lzma.compress(b"1.0.0.0,1.0.0.255,AU\n2.0.0.0,2.255.255.255,fr\n"))
    (path / "country/x-ipv6.csv").write_text("2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,FR\n")
    (path / "asn/x-ipv4.csv").write_text('2.1.0.0,2.1.255.255,3215,"Orange, S.A."\n')
    (path / "asn/x-ipv6.csv").write_text("2001:db8:1::,2001:db8:1:ffff:ffff:ffff:ffff:ffff,64496,Example\n")
    return path


def test_files(tmp_path: Path) -> None:
    look = GeoLookup(written(load_geo(folder(tmp_path), serial=9)))
    assert look.header.serial == 9
    assert look.address("1.0.0.7") == (0, "AU")
    assert look.address("2.1.2.3") == (3215, "FR")
    assert look.address("2.2.0.0") == (0, "FR")
    assert look.address("3.0.0.0") == (0, "")
    assert look.address("2001:db8:1::5") == (64496, "FR")
    assert look.address("2001:db9::") == (0, "")
    assert country_value("FR") == (ord("F") << 8 | ord("R")) << 32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1.0.0.0,1.0.0.255,FR\n1.0.0.0,x,FR\n", ":2: not"),
        ("1.0.0.0,1.0.0.255\n", ":1: not"),
        ("1.0.0.9,1.0.0.2,FR\n", ":1: a range"),
        ("1.0.0.0,1.0.0.2,FRA\n", "country code"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a-ipv4.csv"
    path.write_text(content)
    with pytest.raises(BaseError, match=words):
        read_ranges(path, ipv6=False, country=True)
    with pytest.raises(BaseError, match="no file"):
        load_geo(tmp_path, 1)


def test_base_and_geo_images_are_not_confused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="kind 1"):
        Lookup(written(load_geo(folder(tmp_path), 1)))
    with pytest.raises(ImageError, match="geo image is expected"):
        GeoLookup(build_image(Base(1, 0, *name_keys())))
