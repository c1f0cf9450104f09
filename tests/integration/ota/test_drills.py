"""Keys are lost, replaced and stolen: releases go on, boxes from the shelf follow, what was replaced is worth nothing.

The procedures are those of docs/operations.md, by its own commands.
"""

from __future__ import annotations

import pytest

from tests.support.releases import VERSION
from vigie.contract.firmware import Version

from .conftest import PASSPHRASES, World

pytestmark = [pytest.mark.integration]

NEXT = Version(2027, 1, 0)


def drill(world: World, *numbers: int, code: int = 0) -> str:
    sticks = [world.stick(number) for number in numbers]
    root = world.config.paths.trust / "tuf-root.json"
    return world.ota("drill", root, *sticks, "--passphrases", world.passphrases, code=code)


def test_a_keyholder_loses_the_stick(world: World) -> None:
    """Found by the drill, replaced by two others; the new stick signs the next release, the lost one does not count."""
    world.release(world.maker.bundle())
    said = drill(world, 1, 2, 4, 5, code=1)
    assert said.count("answered") == 4
    assert said.count("MISSING") == 1
    assert "2 of these could be lost" in said
    lost = world.stick(3).rename(world.folder / "found-by-a-thief")
    new = world.folder / "new"
    world.department(
        "keys", "replace-keyholder", "3", "--new", new, "--offline", world.config.paths.offline,
        "--keyholders", "1,5", "--passphrases", world.passphrases,
    )  # fmt: skip
    (world.config.paths.offline / "keyholder-3.pem").write_bytes((new / "keyholder-3.pem").read_bytes())
    bundle = world.maker.bundle(version=NEXT, seed=2)
    request = world.request(world.descriptor(bundle))
    said = world.ota(
        "sign", "add", request, "--offline", lost, "--passphrases", world.passphrases, code=1
    )  # fmt: skip
    assert "not one of the keys of root.json" in said
    assert "NOT one of root.json" in world.ota(
        "drill", world.config.paths.trust / "tuf-root.json", lost, "--passphrases", world.passphrases, code=1
    )


def test_every_online_key_is_replaced(world: World) -> None:
    """The server was broken into: a request from before is refused, a new one goes out, an old box follows."""
    world.release(world.maker.bundle())
    bundle = world.maker.bundle(version=NEXT, seed=2)
    before = world.request(world.descriptor(bundle))
    signatures = world.sign(before, 1, 2)
    world.department(
        "keys", "rotate-online", "--offline", world.config.paths.offline, "--passphrases", world.passphrases
    )
    assert "make a new one" in world.publish(before, signatures, bundle, code=1)
    assert world.seen(NEXT) is None
    request = world.folder / "after.json"
    world.ota("sign", "request", request, world.folder / f"{bundle.stem}.json")
    world.publish(request, world.sign(request, 2, 4), bundle)
    assert world.seen(VERSION) is not None
    assert world.seen(NEXT) is not None


def test_all_sticks_answer(world: World) -> None:
    said = drill(world, 1, 2, 3, 4, 5)
    assert said.count("answered") == 5
    assert "3 of these could be lost" in said
    assert "RENEW NOW" not in said
    assert all(text not in said for text in PASSPHRASES)


def test_one_stick_is_left(world: World) -> None:
    assert "nobody could sign a release today" in drill(world, 2, code=1)
