"""Clock, settings under /proc/sys, netlink messages, image shape: what needs no kernel."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import HostError, ImageError
from vigie.filter import abi
from vigie.filter.datapath import check_image, other_layouts
from vigie.host.clock import ManualClock, SystemClock, mono_s, wall_of_mono
from vigie.host.monitor import Change, What, parse
from vigie.host.net import GROUP_FWD_MASK
from vigie.host.sysctl import ManualSysctl, ProcSysctl, set_if_present


def message(kind: int, body: bytes) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return raw + bytes(-len(raw) % 4)


def test_manual_clock_moves_both_clocks() -> None:
    clock = ManualClock(ns=5_500_000_000, wall=100.0)
    clock.advance(2.5)
    assert (clock.mono_ns(), clock.wall_s(), mono_s(clock)) == (8_000_000_000, 102.5, 8)
    assert wall_of_mono(clock, 7_000_000_000) == 101.5
    assert SystemClock().mono_ns() <= SystemClock().mono_ns()


def test_settings_are_written_when_they_differ(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "x").write_text("1\n")
    sysctl = ProcSysctl(tmp_path)
    assert sysctl.get("net/x") == "1"
    assert set_if_present(sysctl, "net/x", "0") and sysctl.get("net/x") == "0"
    assert not set_if_present(sysctl, "net/y", "0")
    with pytest.raises(HostError, match="net/z/y"):
        sysctl.set("net/z/y", "0")
    with pytest.raises(HostError, match="no such setting"):
        ManualSysctl().set("a", "1")


def test_group_mask_is_lldp_and_eapol() -> None:
    assert GROUP_FWD_MASK == 0x4008
    assert not GROUP_FWD_MASK & 0x7, "the kernel refuses bits 0 to 2"


def test_changes_are_told_by_kind_and_device() -> None:
    link = struct.pack("=BBHiII", 0, 0, 1, 7, 1, 0)
    route = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 0, 0)
    neighbour = struct.pack("=BBHiHBB", 2, 0, 0, 5, 2, 0, 0)
    bridge = struct.pack("=BBHiHBB", 7, 0, 0, 5, 2, 0, 0)
    data = message(16, link) + message(25, route) + message(28, neighbour) + message(29, bridge) + message(99, b"")
    assert list(parse(data)) == [
        Change(What.LINK, 7),
        Change(What.ROUTE, 0, gone=True),
        Change(What.NEIGHBOUR, 5),
        Change(What.FDB, 5, gone=True),
    ]


@given(st.binary(max_size=300))
def test_any_netlink_bytes_are_read_without_harm(data: bytes) -> None:
    assert len(list(parse(data))) <= len(data) // 16


def image(pages: int = 4, **fields: object) -> memoryview:
    memory = bytearray(pages * abi.PAGE_BYTES)
    values = {"magic": abi.IMAGE_MAGIC, "version": 1, "pages": pages, **fields}
    memory[: abi.IMAGE_HEADER.itemsize] = abi.pack(abi.IMAGE_HEADER, **values)
    return memoryview(memory)


def test_image_shape() -> None:
    assert int(check_image(image(serial=9), abi.KIND_BASE)["serial"]) == 9
    assert check_image(image(kind=1, value4=(3, 512)), abi.KIND_GEO)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (image(magic=1), "magic"),
        (image(kind=1), "kind 1"),
        (image(pages=4, serial=1)[: 3 * abi.PAGE_BYTES], "4 pages and has 3"),
        (image(start4=(3, 1025)), "start4"),
        (image(class4=(1, 1)), "class4"),
        (image(hash_name=(0xFFFFFFFF, 1)), "hash_name"),
    ],
)
def test_bad_images_are_refused(bad: memoryview, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        check_image(bad, abi.KIND_BASE)


def test_layout_folders(tmp_path: Path) -> None:
    for name in ("v0", f"v{abi.LAYOUT_VERSION}", "v12", "other", "v-1"):
        (tmp_path / name).mkdir()
    assert other_layouts(tmp_path) == {0: tmp_path / "v0", 12: tmp_path / "v12"}
    assert other_layouts(tmp_path / "absent") == {}
