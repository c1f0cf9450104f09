"""A delta file leads from one base file to the next, byte for byte, or says that it does not."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.base_delta.bases import feed, listed, made, opened, simple
from tests.unit.base_image.strategies import inputs
from tests.unit.base_image.test_compile_model import Inputs, compiled
from tests.unit.base_image.test_diff import says
from vigie.contract.codes import Action, Category
from vigie.filter.base.additions import Additions
from vigie.filter.base.basefile import pack_base, unpack_base
from vigie.filter.base.baseformat import BaseFileError, OversizeBaseFile
from vigie.filter.base.deltaformat import MAX_CONTENT, PREFIX, DeltaError, pack_delta, unpack_delta
from vigie.filter.base.diff import patch_image
from vigie.filter.base.filedelta import kernel_delta, make_file_delta, patch_file, patch_lines
from vigie.filter.base.image import build_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import FLAG_CANDIDATE, Base
from vigie.filter.base.names import name_keys
from vigie.filter.base.planes import compress, decompress


def delta_bytes(old: Base, new: Base) -> bytes:
    return pack_delta(make_file_delta(opened(old), opened(new)))


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(inputs(), inputs(), st.integers(0, 3))
def test_a_delta_leads_to_the_new_file_byte_for_byte(old: Inputs, new: Inputs, flags: int) -> None:
    before, after = compiled(old), compiled(new)
    after.serial, after.created, after.flags = 8, 99, flags
    raw = delta_bytes(before, after)
    delta = unpack_delta(raw)
    assert patch_file(opened(before), delta) == pack_base(after)
    assert (delta.from_serial, delta.to_serial) == (7, 8)
    assert delta.sizes() == {"v4": len(after.v4), "v6": len(after.v6), "names": len(after.names)}
    assert pack_delta(delta) == raw


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(inputs(), inputs())
def test_the_kernel_follows_from_the_file_alone(old: Inputs, new: Inputs) -> None:
    before, after = compiled(old), compiled(new)
    after.serial = 8
    delta = kernel_delta(unpack_delta(delta_bytes(before, after)))
    additions = Additions(never_names=("a.fr",), never_networks=("0.0.0.8/30",))
    plan = patch_image(build_image(before, additions), delta, additions)
    out = bytearray(plan.nbytes)
    plan.write(out)
    assert says(Lookup(out)) == says(Lookup(build_image(after, additions)))


def many(count: int, seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    nets = [f"{a}.{b}.{c}.{2 * d}" for a, b, c, d in rng.integers(11, 126, (count, 4)).tolist()]
    return nets, [f"n{n:x}.example{n % 50}.net" for n in rng.integers(0, 1 << 40, count).tolist()]


@pytest.mark.slow
def test_a_delta_is_small_and_what_stays_is_not_compressed_again() -> None:
    nets, names = many(20_000, 1)
    old, new = simple(1, nets, names), simple(2, [*nets[500:], *(f"150.1.{i}.1" for i in range(250))], names)
    raw = delta_bytes(old, new)
    assert len(raw) < 4000, f"{len(raw)} bytes for 750 changes"
    assert patch_file(opened(old), unpack_delta(raw)) == pack_base(new)


def test_a_feed_that_ends_or_comes_costs_only_its_own_entries() -> None:
    nets, names = many(5000, 2)
    shared = (feed("kept"), listed(nets, names))
    doubled = (feed("ends"), listed(nets[:2500], names[:10]))
    fresh = (feed("comes", category=Category.SPAM), listed(["150.1.1.1"]))
    old, new = made(1, doubled, shared), made(2, shared, fresh)
    delta = make_file_delta(opened(old), opened(new))
    assert len(delta.columns["v4.gone.start"]) == 0 and len(delta.columns["v4.new.start"]) == 1
    assert len(pack_delta(delta)) < 1000
    assert patch_file(opened(old), delta) == pack_base(new)


def test_a_delta_of_another_predecessor_is_refused() -> None:
    old, other = simple(1, ["45.9.148.1"], ["a.example"]), simple(1, ["45.9.148.2"], ["a.example"])
    new = simple(2, ["45.9.148.1", "45.9.148.3"], ["a.example"])
    delta = unpack_delta(delta_bytes(old, new))
    with pytest.raises(DeltaError, match="another one"):
        patch_file(opened(other), delta)
    with pytest.raises(DeltaError, match="another one"):
        patch_file(opened(simple(3, ["45.9.148.1"], ["a.example"])), delta)
    lying = replace(delta, from_content=opened(other).content())
    with pytest.raises(DeltaError, match="does not lead"):
        patch_file(opened(other), lying)
    taking = unpack_delta(delta_bytes(old, simple(2, [], ["a.example"])))
    with pytest.raises(DeltaError, match="not in the base"):
        patch_file(opened(other), replace(taking, from_content=opened(other).content()))


def test_bases_under_different_name_keys_have_no_delta() -> None:
    old, new = simple(1, names=["a.example"]), simple(2, names=["a.example"])
    new.name_key, new.name_seed = name_keys(1)
    with pytest.raises(DeltaError, match="keys"):
        make_file_delta(opened(old), opened(new))


def test_flags_and_unknown_fields_of_the_header_travel() -> None:
    old, new = simple(1, ["45.9.148.1"]), simple(2, ["45.9.148.1"])
    new.flags = FLAG_CANDIDATE | 1 << 20
    data = pack_base(new)
    size = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[16 : 16 + size])
    header = {"later": {"a": [1, "é"]}, **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    head = data[:12] + struct.pack("<I", len(text)) + text
    newer = head + hashlib.sha256(head).digest() + data[16 + size + 32 :]
    got = patch_file(opened(old), unpack_delta(pack_delta(make_file_delta(opened(old), opened(newer)))))
    assert got == newer and unpack_base(got).flags == new.flags


def test_content_of_a_file_that_does_not_carry_its_digests() -> None:
    base = simple(1, ["45.9.148.1"], ["a.example"])
    data = pack_base(base)
    size = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[16 : 16 + size])
    del header["flags"]
    for place in header["sections"].values():
        del place["content"]
    text = json.dumps(header, separators=(",", ":")).encode()
    head = data[:12] + struct.pack("<I", len(text)) + text
    old = opened(head + hashlib.sha256(head).digest() + data[16 + size + 32 :])
    assert old.read().flags == 0
    new = simple(2, ["45.9.148.2"], ["a.example"])
    delta = make_file_delta(old, opened(new))
    assert delta.from_content == old.content()
    assert patch_file(old, delta) == pack_base(new)


GOOD = delta_bytes(
    made(1, (feed("a"), listed(["45.9.148.0/24", "2a00:1::/48"], ["x.example", "y.example"], [("45.1.1.1", 25)]))),
    made(
        2, (feed("b", Action.OBSERVE), listed(["45.9.0.0/24"], ["z.example", "y.example"], [("2a00::7", 443)])),
        (feed("a"), listed(["45.9.148.7", "2a00:2::/48"], ["y.example"])),
    ),
)  # fmt: skip


def judged(data: bytes) -> None:
    """A delta that is accepted is one that the rest of the program may use without care."""
    try:
        delta = unpack_delta(data)
    except BaseFileError:
        return
    kernel_delta(delta)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_bytes_changed(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    judged(bytes(data))


def sealed(content: bytes, size: int | None = None) -> bytes:
    prefix = PREFIX.pack(GOOD[:8], 1, 0, len(content) if size is None else size)
    frame = compress(content)
    return prefix + hashlib.sha256(prefix + frame).digest() + frame


CONTENT = decompress(GOOD[PREFIX.size + 32 :], PREFIX.unpack_from(GOOD)[3])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_content_changed_under_a_right_digest(changes: list[tuple[int, int]]) -> None:
    data = bytearray(CONTENT)
    for at, value in changes:
        data[at] = value
    judged(sealed(bytes(data)))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "not a delta"),
        (b"\x89VGD", "ends within"),
        (b"PK\x03\x04" * 20, "not a delta"),
        (GOOD[:-1], "digest"),
        (GOOD[:8] + b"\x02" + GOOD[9:], "format 2"),
        (sealed(CONTENT, MAX_CONTENT + 1), "at most"),
        (sealed(CONTENT, len(CONTENT) - 1), "announced"),
        (sealed(CONTENT + b"x"), "after the end"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, error: str) -> None:
    with pytest.raises(BaseFileError, match=error):
        unpack_delta(data, "here")


def test_a_bomb_takes_no_memory() -> None:
    bomb = sealed(bytes(60 << 20))
    tracemalloc.start()
    with pytest.raises(BaseFileError):
        unpack_delta(bomb[: PREFIX.size - 4] + struct.pack("<I", 100) + bomb[PREFIX.size :])
    prefix = PREFIX.pack(GOOD[:8], 1, 0, 100)
    frame = bomb[PREFIX.size + 32 :]
    with pytest.raises(BaseFileError, match="announced"):
        unpack_delta(prefix + hashlib.sha256(prefix + frame).digest() + frame)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20, f"{peak} bytes"


def test_a_delta_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = unpack_delta(GOOD)
    monkeypatch.setattr("vigie.filter.base.deltaformat.MAX_CONTENT", 100)
    with pytest.raises(OversizeBaseFile, match="whole base"):
        pack_delta(delta)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_lines_go_and_come(data: st.DataObject) -> None:
    line = st.sampled_from(["a", "bb", "ccc"])
    old, new = data.draw(st.lists(line, max_size=8)), data.draw(st.lists(line, max_size=6))
    gone = sorted(data.draw(st.sets(st.integers(0, len(old) - 1)))) if old else []
    kept = [text for i, text in enumerate(old) if i not in gone]
    at = sorted(data.draw(st.permutations(range(len(kept) + len(new))))[: len(new)])
    wanted, rest, more = [], iter(kept), iter(new)
    for i in range(len(kept) + len(new)):
        wanted.append(next(more) if i in at else next(rest))
    got = patch_lines(
        np.frombuffer("\n".join(old).encode(), np.uint8), np.array(gone, np.uint32), np.array(at, np.uint32),
        np.frombuffer("\n".join(new).encode(), np.uint8),
    )  # fmt: skip
    assert got.tobytes().decode() == "\n".join(wanted)


def test_lines_that_are_not_there() -> None:
    text = np.frombuffer(b"a\nb", np.uint8)
    none = np.zeros(0, np.uint32)
    for gone, at in ((np.array([2], np.uint32), none), (none, np.array([3], np.uint32))):
        with pytest.raises(DeltaError, match="names of the base"):
            patch_lines(text, gone, at, np.frombuffer(b"z", np.uint8)[: len(at)])
