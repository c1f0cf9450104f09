"""The offline second signature, checked by the filter itself; the operation around the orders."""

from __future__ import annotations

import asyncio
import json
import pwd
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.department_policy.world import BOX, HOUR, T0, Essential, Isolation, World
from vigie.contract import dsse
from vigie.contract.trust import SteeringKeys
from vigie.errors import BaseError, DaemonError, KernelError, UsageError
from vigie.filter import department_second
from vigie.filter.api import PEER
from vigie.filter.department import OrderError
from vigie.filter.department_ops import DepartmentOps

ONLINE = Ed25519PrivateKey.generate()
OFFLINE = [Ed25519PrivateKey.generate() for _ in range(5)]


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    folder = tmp_path / "trust"
    folder.mkdir()
    publics = tuple(dsse.public_bytes(key) for key in OFFLINE)
    keys = SteeringKeys.of((dsse.public_bytes(ONLINE),), publics)
    (folder / "steering.json").write_bytes(keys.to_bytes())
    return folder


def sealed(payload: bytes, *keys: Ed25519PrivateKey, kind: str = dsse.DESIRED_TYPE) -> bytes:
    return dsse.sign(payload, kind, *keys).to_bytes()


def test_two_offline_keys_are_a_second_signature(trust: Path) -> None:
    for keys, second in (
        ((ONLINE,), False),
        ((ONLINE, OFFLINE[0]), False),
        ((ONLINE, OFFLINE[0], OFFLINE[3]), True),
        ((OFFLINE[1], OFFLINE[2]), True),
        ((ONLINE, OFFLINE[0], Ed25519PrivateKey.generate()), False),
        ((), False),
    ):
        assert department_second.opened(sealed(b"{}", *keys), trust) == (b"{}", second)


def test_a_signature_over_something_else_is_none(trust: Path) -> None:
    good = json.loads(sealed(b'{"a":1}', ONLINE, *OFFLINE[:2]))
    other = json.loads(sealed(b'{"a":2}', ONLINE))
    forged = json.dumps(good | {"payload": other["payload"]}).encode()
    assert department_second.opened(forged, trust) == (b'{"a":2}', False)
    twice = good | {"signatures": [s for s in good["signatures"] if s["keyid"] == good["signatures"][1]["keyid"]] * 2}
    assert department_second.opened(json.dumps(twice).encode(), trust)[1] is False


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"x" * 70_000, sealed(b"{}", ONLINE, kind=dsse.COMMAND_TYPE)]
)
def test_what_is_no_envelope(trust: Path, data: bytes) -> None:
    with pytest.raises(OrderError, match=r"^\[(signature|too-large)\]"):
        department_second.opened(data, trust)


def test_without_keys_no_envelope_is_opened(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match=r"steering\.json"):
        department_second.opened(sealed(b"{}", *OFFLINE), tmp_path)


def test_the_box_s_id_is_that_of_its_credentials(tmp_path: Path) -> None:
    assert department_second.box_id(tmp_path) == ""
    folder = tmp_path / "enrol" / "current"
    folder.mkdir(parents=True)
    for text, found in ((json.dumps({"box_id": BOX}), BOX), ('{"box_id": "x"}', ""), ('{"box_id": 3}', ""), ("", "")):
        (folder / "box.json").write_text(text)
        assert department_second.box_id(tmp_path) == found


# ---- the operation -------------------------------------------------------------------------------------------------


@dataclass
class Config:
    trust: Path
    box_state: Path
    link_user: str = ""


@dataclass
class Engine:
    """As much of the engine as the operation touches."""

    department: Any
    config: Config
    problems: dict[str, str] = field(default_factory=dict)
    applied: int = 0
    broken: bool = False

    def apply_policy(self) -> None:
        if self.broken:
            raise KernelError("no room")
        self.applied += 1

    def apply_roles(self) -> None:
        pass


@dataclass
class Link:
    """What the link calls."""

    world: World
    engine: Engine
    rebuilt: list[Path] = field(default_factory=list)
    fails: bool = False

    def call(self, op: str = "department", **params: Any) -> dict[str, Any]:
        async def rebuild(lists: Path) -> None:
            if self.fails:
                raise BaseError("no such base")
            self.rebuilt.append(lists)

        async def go() -> dict[str, Any]:
            return await DepartmentOps(self.engine, rebuild).once()[op](params)  # type: ignore[arg-type]

        return asyncio.run(go())


@pytest.fixture
def link(tmp_path: Path, trust: Path) -> Link:
    world = World(tmp_path)
    folder = tmp_path / "state" / "enrol" / "current"
    folder.mkdir(parents=True)
    (folder / "box.json").write_text(json.dumps({"box_id": BOX}))
    return Link(world, Engine(world.layer, Config(trust, tmp_path / "state")))


def test_an_order_by_its_payload(link: Link) -> None:
    answer = link.call(policy=link.world.document(isolation=Isolation(2, T0 + HOUR)).to_dict())
    assert (answer["version"], answer["status"], link.engine.applied) == (1, "in_force", 1)
    assert link.call("department-show")["isolation"]["level"] == 2
    assert link.rebuilt == []


@pytest.mark.slow
def test_who_owns_the_link_cannot_claim_the_second_signature(link: Link) -> None:
    link.world.isolate(2, 4.0)
    link.world.pass_time(4 * HOUR + 60, 30)
    document = link.world.document(isolation=Isolation(2, int(link.world.unix) + HOUR))
    answer = link.call(policy=document.to_dict() | {"second": True}, second=True)
    assert {"code": "isolation-budget", "what": "isolation"} in answer["refused"]
    for keys, level in (((ONLINE,), 0), ((OFFLINE[0], ONLINE), 0), ((ONLINE, *OFFLINE[:2]), 2)):
        payload = link.world.document(isolation=Isolation(2, int(link.world.unix) + HOUR)).to_bytes()
        link.call(envelope=json.loads(sealed(payload, *keys)))
        assert link.world.level() == level


def test_an_offline_order_for_another_box_or_for_one_without_an_id(link: Link) -> None:
    other = link.world.document(box="vg-zzzzzzzzzzzzzzzz").to_bytes()
    with pytest.raises(OrderError, match=r"^\[foreign\]"):
        link.call(envelope=sealed(other, *OFFLINE[:2]).decode())
    (link.engine.config.box_state / "enrol" / "current" / "box.json").unlink()
    mine = link.world.document().to_bytes()
    with pytest.raises(OrderError, match=r"^\[foreign\]"):
        link.call(envelope=sealed(mine, *OFFLINE[:2]).decode())
    assert link.call(envelope=sealed(mine, ONLINE).decode())["version"] == 2


def test_lists_are_built_in_once(link: Link) -> None:
    for _ in range(2):
        link.call(policy=link.world.document(essential=(Essential("paie.example", 2),)).to_dict())
    assert link.rebuilt == [link.world.layer.lists_path]
    link.fails = True
    link.call(policy=link.world.document(never_block=("paie.example",)).to_dict())
    assert link.engine.problems == {"department-lists": "no such base"}
    assert [r.target for r in link.world.effective().rules] == ["paie.example"], "the rule holds meanwhile"
    link.fails = False
    link.call(policy=link.world.document().to_dict())
    assert link.engine.problems == {}


@pytest.fixture
def peer() -> Iterator[Callable[[int], object]]:
    """Sets who asks."""
    token = PEER.set(-1)
    yield PEER.set
    PEER.reset(token)


def test_with_a_user_of_its_own_only_the_link_brings_orders(link: Link, peer: Callable[[int], object]) -> None:
    """The page is of the group too, and what it serves comes from the web."""
    link.engine.config.link_user = "nobody"
    nobody, page = pwd.getpwnam("nobody").pw_uid, 54_321
    policy = link.world.document().to_dict()
    for uid, allowed in ((page, False), (-1, False), (nobody, True), (0, True)):
        peer(uid)
        if allowed:
            assert link.call(policy=policy)["version"] == 1
        else:
            with pytest.raises(DaemonError, match="link_user"):
                link.call(policy=policy)
    peer(page)
    assert link.call("department-show")["version"] == 1
    link.engine.config.link_user = "no-such-user"
    with pytest.raises(DaemonError, match="link_user"):
        link.call(policy=policy)


def test_errors_begin_with_a_code(link: Link) -> None:
    with pytest.raises(UsageError):
        link.call()
    with pytest.raises(OrderError, match=r"^\[malformed\]"):
        link.call(policy={"v": 1})
    link.engine.broken = True
    with pytest.raises(DaemonError, match=r"^\[table-full\]"):
        link.call(policy=link.world.document().to_dict())
