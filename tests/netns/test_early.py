"""The early loader alone: the line opens filtered, whatever the image is, and the daemon need not be there.

pc -- [ lan ] -- lan0 [ box: vigie-early ] wan0 -- [ router ]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.bare import make_base
from lab.box import BRIDGE, EARLY, OBJECT
from lab.clients.leak import Leak
from lab.netns import Result
from lab.topology import LAN_PORT, WAN_PORT, Topology
from tests.netns.town import INDICATORS
from vigie.filter.base.image import build_image

ADDRESSES = (INDICATORS.toxic4, INDICATORS.toxic6)


@pytest.fixture
def lab() -> Iterator[Topology]:
    """A box that was just plugged in: two ports, nothing else."""
    with Topology(INDICATORS, services=False) as made:
        made.world.mount_bpffs()
        yield made


def start(lab: Topology, *images: Path) -> Result:
    words = [word for image in images for word in ("--image", str(image))]
    return lab.box.run(
        str(EARLY), "--ports", f"{LAN_PORT},{WAN_PORT}", "--bridge", BRIDGE, "--object", str(OBJECT),
        "--pin", str(lab.world.bpffs / "vigie"), *words,
    )  # fmt: skip


def image(lab: Topology, name: str = "base.img", damage: Callable[[bytearray], None] | None = None) -> Path:
    data = bytearray(build_image(make_base(ADDRESSES, INDICATORS.toxic_names, filler=20_000), digest=True))
    if damage:
        damage(data)
    path = lab.world.temp / name
    path.write_bytes(data)
    return path


def flip(data: bytearray) -> None:
    data[len(data) // 2] ^= 1


def cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def wrong_magic(data: bytearray) -> None:
    data[0] ^= 1


def test_no_listed_frame_passes_while_the_box_starts(lab: Topology) -> None:
    with Leak(lab) as leak:
        result = start(lab, image(lab)).require()
    assert leak.clean > 0, result.evidence
    assert leak.leaked == [], f"unfiltered for {leak.unfiltered_ms:.1f} ms\n{result.evidence}"
    assert json.loads(result.out.splitlines()[-1])["early"]["base"] is True, result.evidence


def test_started_again_it_changes_nothing_for_traffic(lab: Topology) -> None:
    start(lab, image(lab)).require()
    with Leak(lab) as leak:
        start(lab, image(lab)).require()
    assert leak.clean > 0
    assert leak.leaked == []


@pytest.mark.parametrize("damage", [flip, cut, wrong_magic])
def test_damaged_image_is_left_out_and_the_next_one_is_used(lab: Topology, damage: Callable[[bytearray], None]) -> None:
    with Leak(lab) as leak:
        result = start(lab, image(lab, "damaged.img", damage), image(lab)).require()
    assert "left out" in result.err, result.evidence
    assert leak.clean > 0
    assert leak.leaked == []


def test_without_a_whole_image_the_line_still_opens(lab: Topology) -> None:
    """Never in the way: exit 3 says that nothing is listed yet."""
    with Leak(lab) as leak:
        result = start(lab, image(lab, "damaged.img", cut)).require(3)
    assert leak.clean > 0, result.evidence


def test_an_object_that_does_not_load_leaves_no_bridge(lab: Topology) -> None:
    """Better no line for a second than a line without a filter: the caller sees exit 1 and the reason."""
    broken = lab.world.temp / "broken.o"
    broken.write_bytes(OBJECT.read_bytes()[:1000])
    result = lab.box.run(
        str(EARLY),
        "--ports",
        f"{LAN_PORT},{WAN_PORT}",
        "--object",
        str(broken),
        "--pin",
        str(lab.world.bpffs / "vigie"),
    )
    assert result.code == 1, result.evidence
    assert str(broken) in result.err
    assert lab.box.run("ip", "link", "show", BRIDGE).code != 0
