"""The base in force, changed through the daemon's operations on a real data path: files, deltas, limits, crashes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.base_delta.bases import feed, listed, made, opened, simple, written
from vigie.contract import dsse
from vigie.contract.base import OVERRIDE_TYPE, Override
from vigie.contract.codes import Action
from vigie.contract.trust import SteeringKeys
from vigie.errors import BaseError, UsageError
from vigie.filter import base_ops, base_store
from vigie.filter.api import PEER
from vigie.filter.base.basefile import open_base, pack_base
from vigie.filter.base.deltaformat import pack_delta
from vigie.filter.base.filedelta import make_file_delta
from vigie.filter.base.imageformat import verify_image
from vigie.filter.base.limits import BaseRefused
from vigie.filter.base.model import FLAG_CANDIDATE, Base
from vigie.filter.base_ops import BaseOps
from vigie.filter.config import Config
from vigie.filter.datapath import DataPath
from vigie.filter.engine import Engine
from vigie.filter.journal import Journal
from vigie.host.clock import SystemClock
from vigie.host.net import Net

pytestmark = pytest.mark.bpf

NETS = ["45.1.1.1", "45.1.2.0/24", "2a00:1::/48"]
NAMES = ["evil.example", "worse.example"]


@dataclass
class Box:
    engine: Engine
    ops: BaseOps
    folder: Path

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        """One operation, and what it leaves to be done in the background."""

        async def work() -> dict[str, Any]:
            PEER.set(params.pop("peer", 12345))
            answer = await self.ops.once()[op](params)
            await self.ops.idle()
            return answer

        return asyncio.run(work())

    def apply(self, base: Base | Path, **params: Any) -> dict[str, Any]:
        path = base if isinstance(base, Path) else written(self.folder / "offered.vgb", base)
        return self.call("base-apply", path=str(path), **params)

    def apply_delta(self, data: bytes, **params: Any) -> dict[str, Any]:
        path = self.folder / "offered.vgd"
        path.write_bytes(data)
        return self.call("base-apply-delta", path=str(path), **params)

    def blocks(self, target: str) -> bool:
        look = self.engine.base.lookup()
        assert look is not None
        number = look.name(target)[1] if target[0].isalpha() else look.address(target)
        return look.classes[number].action.name == "BLOCK"

    @property
    def kept(self) -> int:
        """Version of the file on disk."""
        with open_base(self.engine.config.base) as file:
            return int(file.meta["serial"])


@pytest.fixture(scope="module")
def datapath(repo_root: Path) -> Iterator[DataPath]:
    path = DataPath.open(repo_root / "firmware" / "bpf" / "build" / "filter.bpf.o")
    yield path
    path.close()


KEYS = [Ed25519PrivateKey.generate() for _ in range(5)]
ONLINE = Ed25519PrivateKey.generate()


@pytest.fixture
def box(datapath: DataPath, tmp_path: Path) -> Box:
    trust, state = tmp_path / "trust", tmp_path / "state"
    trust.mkdir()
    state.mkdir()
    public = [dsse.public_bytes(key) for key in KEYS]
    (trust / "steering.json").write_bytes(SteeringKeys.of((dsse.public_bytes(ONLINE),), tuple(public)).to_bytes())
    config = Config(
        state_dir=state, base=tmp_path / "kept" / "base.vgb", image=tmp_path / "kept" / "base.img", trust=trust,
        box_state=tmp_path / "box", run_dir=tmp_path / "run",
    )  # fmt: skip
    config = replace(config, journal=replace(config.journal, path=state / "journal.db"))
    clock = SystemClock()
    engine = Engine(config, datapath, Net(), Journal(config.journal), clock, ("none0", "none1"))
    prepared = base_store.prepare(written(tmp_path / "builtin.vgb", simple(1, NETS, NAMES)))
    engine.install_base(prepared)
    prepared.close()
    return Box(engine, BaseOps(engine), tmp_path)


def delta(old: Base, new: Base) -> bytes:
    return pack_delta(make_file_delta(opened(old), opened(new)))


OLD = simple(1, NETS, NAMES)
NEW = simple(2, [*NETS[1:], "45.9.9.9", "2a00:2::1"], ["evil.example", "newest.example"])


def test_a_delta_is_in_force_and_then_on_disk(box: Box) -> None:
    said = box.apply_delta(delta(OLD, NEW), expect_version=2)
    assert (said["way"], said["version"], said["kept"], said["keeping"]) == ("patched", 2, False, True)
    assert [box.blocks(t) for t in ("45.9.9.9", "newest.example", "2a00:2::1")] == [True] * 3
    assert [box.blocks(t) for t in ("45.1.1.1", "worse.example")] == [False] * 2
    assert box.engine.config.base.read_bytes() == pack_base(NEW)
    shown = box.call("base-show")
    assert (shown["version"], shown["kept"], shown["keeping"]) == (2, True, False)
    assert shown["content"] == opened(NEW).content()
    assert (shown["v4"], shown["v6"], shown["names"]) == (2, 2, 2)
    header = verify_image(box.engine.config.image.read_bytes())
    assert header.serial == 2
    # What the daemon would say after a restart is the same.
    again = base_store.prepare(box.engine.config.base)
    again.close()
    assert again.info == box.engine.base.info


def test_a_chain_of_deltas(box: Box) -> None:
    third = simple(3, [*NETS[1:], "45.9.9.9"], ["evil.example"])

    async def both() -> None:
        for number, data in enumerate((delta(OLD, NEW), delta(NEW, third))):
            path = box.folder / f"{number}.vgd"
            path.write_bytes(data)
            await box.ops.once()["base-apply-delta"]({"path": str(path)})
        await box.ops.idle()

    asyncio.run(both())
    assert box.kept == 3 and box.call("base-show")["kept"]
    assert box.engine.config.base.read_bytes() == pack_base(third)


def test_a_delta_of_another_base_changes_nothing(box: Box) -> None:
    for wrong in (delta(NEW, OLD), delta(simple(1, NETS), NEW)):
        with pytest.raises(BaseError, match="delta-base"):
            box.apply_delta(wrong)
    with pytest.raises(BaseError, match="where base 7 was expected"):
        box.apply_delta(delta(OLD, NEW), expect_version=7)
    with pytest.raises(BaseError, match="digest"):
        box.apply_delta(delta(OLD, NEW)[:-1])
    assert box.call("base-show")["version"] == 1 and box.blocks("45.1.1.1")
    assert not box.engine.config.base.exists()


def test_a_delta_over_an_essential_name_is_built_whole(box: Box) -> None:
    essential = next(iter(base_store.box_lists()[0].essential_names))
    below = simple(2, NETS, [*NAMES, essential])
    said = box.apply_delta(delta(OLD, below))
    assert (said["way"], said["version"], said["kept"]) == ("rebuilt", 2, True)
    assert box.kept == 2 and box.call("base-show")["version"] == 2


def test_a_delta_too_large_for_the_loop_is_worked_out_elsewhere(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_ops, "PATCH_MAX", 3)
    assert box.apply_delta(delta(OLD, NEW))["way"] == "rebuilt"
    assert box.kept == 2 and box.blocks("45.9.9.9")


def test_a_whole_file(box: Box) -> None:
    said = box.apply(NEW, expect_version=2)
    assert (said["way"], said["version"], said["kept"]) == ("loaded", 2, True)
    assert said["path"] == str(box.engine.config.base) and box.kept == 2
    assert verify_image(box.engine.config.image.read_bytes()).serial == 2
    with pytest.raises(BaseError, match="expected"):
        box.apply(OLD, expect_version=9)
    with pytest.raises(UsageError):
        box.call("base-apply", path="relative.vgb")
    assert not list(box.engine.config.base.parent.glob("*.staged"))
    box.apply_delta(delta(NEW, simple(3, NETS, NAMES)))
    assert box.kept == 3


def test_the_candidate_is_known(box: Box) -> None:
    trial = made(2, (feed(), listed(NETS, NAMES)))
    trial.flags = FLAG_CANDIDATE
    assert box.apply_delta(delta(OLD, trial))["candidate"] and box.engine.candidate == 2
    assert not box.apply(simple(3, NETS, NAMES))["candidate"] and box.engine.candidate is None


WIDE = simple(2, [*NETS, "46.0.0.0/8"], NAMES)


def test_limits_hold_for_files_and_for_deltas(box: Box) -> None:
    for offer in (lambda: box.apply(WIDE), lambda: box.apply_delta(delta(OLD, WIDE))):
        with pytest.raises(BaseRefused) as caught:
            offer()
        assert {r.code for r in caught.value.refusals} == {"limit-prefix4", "limit-cover4"}
    for names in (["com"], [*NAMES, "fr"]):
        with pytest.raises(BaseRefused, match="limit-name"):
            box.apply_delta(delta(OLD, simple(2, NETS, names)))
        with pytest.raises(BaseRefused, match="limit-name"):
            box.apply(simple(2, NETS, names))
    assert box.call("base-show")["version"] == 1 and not box.blocks("46.1.1.1")
    assert not box.engine.config.base.exists()


def test_growth_is_held_against_the_day_also_after_a_restart(box: Box) -> None:
    nets = [f"20.{2 * i}.0.0/16" for i in range(40)]
    box.apply(simple(2, nets), peer=0, force=True)
    box.apply(simple(3, [*nets, "30.0.0.0/17", *(f"30.{i}.0.0/16" for i in range(2, 10, 2))]))
    fresh = BaseOps(box.engine)
    box.ops = fresh
    more = simple(4, [*nets, "30.0.0.0/17", *(f"30.{i}.0.0/16" for i in range(2, 20, 2))])
    with pytest.raises(BaseRefused, match="a day ago"):
        box.apply(more)


def override(version: int, digest: str, *keys: Ed25519PrivateKey, kind: str = OVERRIDE_TYPE) -> str:
    return dsse.sign(Override(version, digest).to_bytes(), kind, *keys).to_bytes().decode()


DIGEST = hashlib.sha256(pack_base(WIDE)).hexdigest()


NO_OVERRIDES = {
    "one key": override(2, DIGEST, KEYS[0]),
    "one key twice": override(2, DIGEST, KEYS[0], KEYS[0]),
    "an online key": override(2, DIGEST, ONLINE, KEYS[0]),
    "a stranger": override(2, DIGEST, ONLINE, Ed25519PrivateKey.generate()),
    "another version": override(3, DIGEST, *KEYS),
    "another file": override(2, hashlib.sha256(b"another").hexdigest(), *KEYS),
    "another purpose": override(2, DIGEST, *KEYS, kind=dsse.DESIRED_TYPE),
    "no envelope": "{}",
    "no JSON": "no json",
}


def test_an_override_that_is_none(box: Box) -> None:
    for what, offered in NO_OVERRIDES.items():
        with pytest.raises(BaseError, match="override"):
            box.apply(WIDE, override=offered)
        assert box.call("base-show")["version"] == 1, what
    assert not box.blocks("46.1.1.1")


def test_two_offline_keys_lift_the_limits_for_one_file(box: Box) -> None:
    assert box.apply(WIDE, override=override(2, DIGEST, KEYS[1], KEYS[4]))["version"] == 2
    assert box.blocks("46.200.1.1")
    # From then on it is what others are held against.
    assert box.apply(simple(3, [*NETS, "46.0.0.0/8", "47.1.1.1"], NAMES))["version"] == 3
    with pytest.raises(BaseRefused):
        box.apply(simple(4, [*NETS, "46.0.0.0/8", "48.0.0.0/6"], NAMES))


def test_only_root_lifts_limits_by_asking(box: Box) -> None:
    with pytest.raises(UsageError, match="root"):
        box.apply(WIDE, force=True)
    assert box.apply(WIDE, force=True, peer=0)["version"] == 2


def test_no_room_on_the_disk_leaves_the_delta_in_force_and_the_file_whole(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.apply(simple(2, NETS, NAMES))
    monkeypatch.setattr(base_store, "keep_staged", _no_room)
    box.apply_delta(delta(simple(2, NETS, NAMES), simple(3, [*NETS, "45.9.9.9"], NAMES)))
    shown = box.call("base-show")
    assert (shown["version"], shown["kept"]) == (3, False) and box.blocks("45.9.9.9")
    assert box.kept == 2 and "no room" in box.engine.problems["base-file"]
    monkeypatch.undo()
    box.apply(simple(4, [*NETS, "45.9.9.9"], NAMES))
    assert box.kept == 4 and box.call("base-show")["kept"] and "base-file" not in box.engine.problems


@pytest.mark.parametrize(
    ("step", "file", "image"), [("patch_on_disk", 2, 2), ("keep_staged", 2, 2), ("save_image", 3, 2)]
)
def test_a_power_cut_at_any_step_leaves_whole_files(
    box: Box, monkeypatch: pytest.MonkeyPatch, step: str, file: int, image: int
) -> None:
    box.apply(simple(2, NETS, NAMES))

    def cut(*_args: object) -> None:
        raise BaseError("power cut")

    monkeypatch.setattr(base_store, step, cut)
    box.apply_delta(delta(simple(2, NETS, NAMES), simple(3, [*NETS, "45.9.9.9"], NAMES)))
    monkeypatch.undo()
    assert verify_image(box.engine.config.image.read_bytes()).serial == image
    # The next start: what lay half done is gone, the base on disk is whole and takes the delta again, or has it.
    restarted = BaseOps(box.engine)
    prepared = base_store.prepare(box.engine.config.base)
    box.engine.install_base(prepared)
    prepared.close()
    box.ops = restarted
    assert box.call("base-show")["version"] == file
    assert sorted(p.name for p in box.engine.config.base.parent.iterdir()) == ["base.img", "base.vgb"]
    if file == 2:
        box.apply_delta(delta(simple(2, NETS, NAMES), simple(3, [*NETS, "45.9.9.9"], NAMES)))
    assert box.kept == 3 and box.blocks("45.9.9.9")


def _no_room(_staged: Path, target: Path) -> None:
    raise BaseError(f"{target}: no room")


def test_the_departments_lists_follow_the_base_in_force(box: Box) -> None:
    box.apply_delta(delta(OLD, NEW))
    lists = box.engine.department.lists_path
    lists.write_text(
        '{"never_names": ["newest.example"], "never_networks": [], "essential_names": {}, "essential_networks": {}}'
    )

    async def rebuild() -> None:
        await box.ops.rebuild(lists)

    asyncio.run(rebuild())
    assert not box.blocks("newest.example") and box.blocks("45.9.9.9")
    # A delta that lists the name again does not undo the protection.
    box.apply_delta(delta(NEW, simple(3, NETS[1:], ["newest.example", "z.example"])))
    assert not box.blocks("newest.example") and box.blocks("z.example")


def candidate(*extra: tuple[list[str], list[str], Action], nets: list[str] = NETS, names: list[str] = NAMES) -> Base:
    """Base 1 with more feeds beside it, marked as a candidate."""
    more = [(feed(f"more{i}", action), listed(n, m)) for i, (n, m, action) in enumerate(extra)]
    base = made(2, (feed(), listed(nets, names)), *more)
    base.flags |= FLAG_CANDIDATE
    return base


TRIAL = candidate((["46.7.7.7", "2a00:9::/48"], ["perhaps.example"], Action.OBSERVE))
NOT_TRIALS = {
    "address": candidate((["46.7.7.7"], [], Action.BLOCK)),
    "network": candidate((["2a00:9::/48"], [], Action.BLOCK)),
    "name": candidate(([], ["login.example"], Action.BLOCK)),
    "another name for one": candidate(([], ["login.example"], Action.BLOCK), names=NAMES[1:]),
}


@pytest.mark.parametrize("by", ["file", "delta"])
def test_a_candidate_that_only_observes_is_tried(box: Box, by: str) -> None:
    said = box.apply(TRIAL, candidate=True) if by == "file" else box.apply_delta(delta(OLD, TRIAL), candidate=True)
    assert said["candidate"] and box.engine.candidate == 2
    assert [box.blocks(t) for t in ("46.7.7.7", "perhaps.example", "45.1.1.1")] == [False, False, True]


@pytest.mark.parametrize("what", NOT_TRIALS)
@pytest.mark.parametrize("by", ["file", "delta"])
def test_a_candidate_blocks_nothing_more_whoever_signed_it(box: Box, what: str, by: str) -> None:
    bad = NOT_TRIALS[what]
    with pytest.raises(BaseRefused, match=r"\[limit-trial\]"):
        if by == "file":
            box.apply(bad)
        else:
            box.apply_delta(delta(OLD, bad))
    assert box.call("base-show")["version"] == 1
    assert not any(box.blocks(t) for t in ("46.7.7.7", "2a00:9::1", "login.example"))


@pytest.mark.parametrize("by", ["file", "delta"])
def test_what_is_announced_as_a_candidate_is_marked_as_one(box: Box, by: str) -> None:
    def offer(base: Base, *, trial: bool) -> None:
        if by == "file":
            box.apply(base, candidate=trial)
        else:
            box.apply_delta(delta(OLD, base), candidate=trial)

    for base, trial in ((NEW, True), (TRIAL, False)):
        with pytest.raises(BaseError, match=r"\[limit-trial\]"):
            offer(base, trial=trial)
    assert box.call("base-show")["version"] == 1
