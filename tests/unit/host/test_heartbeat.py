"""The filter's proof of life: what the guardian reads of it, and what it is worth."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vigie.errors import HostError, LinkError
from vigie.filter.heartbeat import LOOK_BEATS, Heartbeat


@dataclass
class Kernel:
    """As much of a data path as is asked."""

    control: dict[str, int] = field(default_factory=lambda: {"loop_port": 0})
    hooks: bool | LinkError = True
    looks: int = 0

    def attached(self, *names: str) -> bool:
        assert names == ("eth0", "eth1", "br0")
        self.looks += 1
        if isinstance(self.hooks, LinkError):
            raise self.hooks
        return self.hooks


def engine(kernel: Kernel, serial: int | None = 7) -> Any:
    """As much of an engine."""
    info = None if serial is None else SimpleNamespace(serial=serial)
    return SimpleNamespace(
        datapath=kernel, ports=("eth0", "eth1"), base=SimpleNamespace(info=info), config=SimpleNamespace(bridge="br0")
    )


def beat(folder: Path, kernel: Kernel, serial: int | None = 7) -> dict[str, Any]:
    asyncio.run(Heartbeat(folder, engine(kernel, serial)).beat())
    found: dict[str, Any] = json.loads((folder / "heartbeat.json").read_text())
    return found


def test_it_says_what_is_in_force(tmp_path: Path) -> None:
    before = time.monotonic()
    found = beat(tmp_path, Kernel())
    assert before - 0.001 <= found.pop("at") <= time.monotonic() + 0.001
    assert found == {"base": 7, "attached": True, "loop": False}
    assert [path.name for path in tmp_path.iterdir()] == ["heartbeat.json"]


def test_everybody_may_read_it(tmp_path: Path) -> None:
    """The filter keeps its files to itself (UMask=0027); the guardian is another user."""
    old = os.umask(0o027)
    try:
        beat(tmp_path, Kernel())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "heartbeat.json").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("kernel", "serial", "said"),
    [
        (Kernel(hooks=False), 7, {"base": 7, "attached": False, "loop": False}),
        (Kernel(hooks=LinkError("device br0 does not exist")), 7, {"base": 7, "attached": False, "loop": False}),
        (Kernel(control={"loop_port": 2}), 7, {"base": 7, "attached": True, "loop": True}),
        (Kernel(), None, {"base": 0, "attached": True, "loop": False}),
    ],
)
def test_it_says_what_is_not(tmp_path: Path, kernel: Kernel, serial: int | None, said: dict[str, Any]) -> None:
    found = beat(tmp_path, kernel, serial)
    assert {key: found[key] for key in said} == said


def test_the_kernel_is_not_asked_at_every_beat(tmp_path: Path) -> None:
    kernel = Kernel()

    async def beats(count: int) -> None:
        heartbeat = Heartbeat(tmp_path, engine(kernel))
        for _ in range(count):
            await heartbeat.beat()

    asyncio.run(beats(2 * LOOK_BEATS))
    assert kernel.looks == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"is there a .*/absent"):
        asyncio.run(Heartbeat(tmp_path / "absent", engine(Kernel())).beat())
