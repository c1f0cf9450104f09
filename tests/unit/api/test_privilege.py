"""What the link may do at the filter's socket, and what it may read there."""

from __future__ import annotations

import asyncio
import json
import pwd
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.department_policy.world import MACS
from vigie.errors import DaemonError
from vigie.filter.api import PEER, Hub, Params
from vigie.filter.config import Config
from vigie.filter.operations import Operations
from vigie.filter.privilege import LINK_OPERATIONS, confined, confined_streams
from vigie.link import diagnose, report
from vigie.link.report import Machine

MAC, ADDRESS, NAME = MACS[0], "10.11.12.13", "journal-intime.example"
SECRETS = (MAC, ADDRESS, NAME, "cantine")
RULE = {"action": "allow", "target": NAME, "device": MAC, "note": "cantine"}
ORDERS = {
    "version": 3,
    "status": "in_force",
    "refused": [],
    "quarantine": [{"mac": MAC, "left_s": 60.0}],
    "rules": [RULE],
    "refused_detail": [],
}
STATUS: dict[str, Any] = {
    "uptime_s": 5.0,
    "base": {"version": 7, "entries": 1000},
    "ports": [{"name": "eth0", "role": "lan"}, {"name": "eth1", "role": "wan"}],
    "gateways": [{"mac": MAC, "address": ADDRESS}],
    "onlink": ["10.11.12.0/24"],
    "neighbours": [{"mac": MAC, "address": ADDRESS, "last": 1.0}],
    "inbound": {"mode": 2, "learning_left_s": 0.0},
    "rules": [RULE, RULE],
    "quarantine": [{"mac": MAC, "until": 9.0, "origin": ""}],
    "isolation": {"level": 1, "until": 9.0, "origin": ""},
    "department": ORDERS,
    "outbox": {"lost": 4},
    "candidate": None,
    "learned": [{"mac": MAC, "port": 443}],
    "alerts": [{"mac": MAC, "address": ADDRESS}],
    "problems": [],
}


@pytest.fixture
def peer() -> Iterator[Callable[[str], object]]:
    """Sets who asks."""
    token = PEER.set(0)
    yield lambda user: PEER.set(pwd.getpwnam(user).pw_uid)
    PEER.reset(token)


def operations(user: str) -> Any:
    async def answer(value: Any) -> Any:
        return value

    named = {
        "status": lambda _p: answer(STATUS),
        "department-show": lambda _p: answer(ORDERS),
        "department": lambda _p: answer(ORDERS),
        "top": lambda _p: answer({"devices": [MAC]}),
        "isolate": lambda _p: answer({"level": 3}),
        "outbox": lambda _p: answer({"rows": []}),
    }
    return confined(user, named)


def call(op: Any) -> Any:
    return asyncio.run(op({}))


def test_the_link_reads_no_device_no_address_no_name(peer: Callable[[str], object]) -> None:
    ops = operations("nobody")
    assert call(ops["status"]) == STATUS, "root sees everything"
    peer("nobody")
    for name in ("status", "department", "department-show"):
        text = json.dumps(call(ops[name]))
        assert not [secret for secret in SECRETS if secret in text], text
    peer("daemon")
    assert call(ops["status"]) == STATUS, "and so does the page"


def test_the_link_decides_nothing_for_the_commune(peer: Callable[[str], object]) -> None:
    ops = operations("nobody")
    peer("nobody")
    assert call(ops["outbox"]) == {"rows": []}
    for name in ("top", "isolate"):
        with pytest.raises(DaemonError, match="not for nobody"):
            call(ops[name])
    peer("daemon")
    assert call(ops["isolate"]) == {"level": 3}


def test_what_the_link_tells_is_the_same(peer: Callable[[str], object]) -> None:
    """Its state message needs figures only, and so do its diagnostics."""
    ops = operations("nobody")
    machine = Machine(1, 2, 3, 0.5)
    told = [report.state(1, "1", status, ORDERS, None, machine) for status in _both(ops, peer)]
    assert told[0] == told[1] and (told[0].exceptions, told[0].quarantined, told[0].losses) == (2, 1, 4)
    kept = [{k for k in diagnose.FILTER_KEYS if k in status} for status in _both(ops, peer)]
    assert kept[0] == kept[1]


def _both(ops: Any, peer: Callable[[str], object]) -> list[dict[str, Any]]:
    PEER.set(0)
    whole = call(ops["status"])
    peer("nobody")
    return [whole, call(ops["status"])]


def test_no_stream_for_the_link(peer: Callable[[str], object]) -> None:
    async def watch(_params: Params) -> AsyncIterator[dict[str, Any]]:
        yield {"device": MAC}

    streams = confined_streams("nobody", {"watch": watch})
    assert streams["watch"]({}) is not None
    peer("nobody")
    with pytest.raises(DaemonError, match="not for nobody"):
        streams["watch"]({})


def test_the_daemon_confines_every_operation(tmp_path: Path, peer: Callable[[str], object]) -> None:
    engine: Any = SimpleNamespace(config=Config(link_user="nobody", base=tmp_path / "base.vgb"))
    made = Operations(engine, Hub(), lambda: True, lambda _detach: None)
    peer("nobody")
    assert made.once().keys() >= LINK_OPERATIONS
    for name in made.once().keys() - LINK_OPERATIONS:
        with pytest.raises(DaemonError, match="not for nobody"):
            call(made.once()[name])
    with pytest.raises(DaemonError, match="not for nobody"):
        made.streams()["watch"]({})
