"""A box that updates itself from a simulated repository over real HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.update.repository_side import NOW, Simulator
from tests.integration.update.web_side import DOMAIN, HOST, Pki, Web, make_pki, serving
from tests.unit.base_delta.bases import simple
from vigie.enrol import layout
from vigie.errors import DaemonError
from vigie.filter.base.basefile import in_memory, load_base, pack_base, unpack_base
from vigie.filter.base.deltaformat import load_delta
from vigie.filter.base.filedelta import patch_file
from vigie.filter.base.limits import BaseRefused, compare
from vigie.filter.base.model import FLAG_CANDIDATE, Base
from vigie.host.boxconfig import BoxConfig, Intervals, Paths, Ports, UpdateIntervals
from vigie.host.trusted_clock import Reading, TrustedClock
from vigie.update.base import BaseUpdate
from vigie.update.store import Status

BOX = "vg-" + "a" * 16
NETS = [f"45.{i}.1.1" for i in range(50)]


@dataclass
class FilterSide:
    """The filter's operations on the base with the real files and limits, but without a kernel. asked: each call."""

    data: bytes
    kept: bool = True
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    deaf: bool = False
    strict: bool = True

    @property
    def base(self) -> Base:
        return unpack_base(self.data)

    def call(self, op: str, /, **params: Any) -> dict[str, Any]:
        self.asked.append((op, params))
        if self.deaf:
            raise DaemonError("nobody listens") from FileNotFoundError("filter.sock")
        if op == "base-show":
            return self._said("")
        try:
            if op == "base-apply":
                data = Path(params["path"]).read_bytes()
                load_base(Path(params["path"]))
            else:
                data = patch_file(in_memory(self.data), load_delta(Path(params["path"])))
            new = unpack_base(data)
            assert new.serial == params["expect_version"]
            found = compare(self.base, new)[3]
            if found and not params.get("override"):
                raise BaseRefused(new.serial, found)
        except Exception as e:
            raise DaemonError(str(e)) from e
        self.data, self.kept = data, True
        return self._said("loaded" if op == "base-apply" else "patched")

    def _said(self, way: str) -> dict[str, Any]:
        base, content = self.base, in_memory(self.data).content()
        return {
            "version": base.serial, "content": content, "candidate": bool(base.flags & FLAG_CANDIDATE),
            "kept": self.kept, "way": way,
        }  # fmt: skip

    def ops(self) -> list[str]:
        return [op for op, _ in self.asked if op != "base-show"]


@dataclass
class Machine:
    """Clocks that the test sets."""

    system: float

    def read(self) -> Reading:
        return Reading(self.system, 1000.0, "boot", False)

    def set_system(self, unix_s: float) -> None:
        self.system = unix_s


@dataclass
class Box:
    config: BoxConfig
    clock: TrustedClock
    machine: Machine
    filter: FilterSide
    update: BaseUpdate

    def look(self) -> Status:
        return self.update.look()

    def restarted(self) -> BaseUpdate:
        """A new process with the same folders."""
        self.update = BaseUpdate(self.config, self.clock, self.filter)
        return self.update

    @property
    def version(self) -> int:
        return self.filter.base.serial


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def repository() -> Simulator:
    simulator = Simulator()
    simulator.renew_root()
    return simulator


@pytest.fixture
def web(pki: Pki, repository: Simulator) -> Iterator[Web]:
    with serving(pki, repository.files) as server:
        yield server


def make_box(folder: Path, web: Web, pki: Pki, repository: Simulator, **intervals: float) -> Box:
    paths = Paths(
        folder / "trust", folder / "identity", folder / "state", folder / "filter.sock", folder / "run"
    )  # fmt: skip
    paths.trust.mkdir(parents=True)
    (paths.trust / "roots.pem").write_bytes(pki.roots.read_bytes())
    repository.trust(paths.trust)
    times = UpdateIntervals(**{"connect_s": 20.0, "read_s": 20.0, **intervals})
    config = BoxConfig(
        DOMAIN, set_clock=False, paths=paths, ports=replace(Ports(), https=web.port), addresses={HOST: "127.0.0.1"},
        intervals=replace(Intervals(), update=times),
    )  # fmt: skip
    layout.install(paths, BOX, b"key", b"chain", f"mqtt.{DOMAIN}", (8883,))
    machine = Machine(NOW)
    clock = TrustedClock(config, machine)
    filter_side = FilterSide(pack_base(simple(1_700_000_000, NETS)))
    return Box(config, clock, machine, filter_side, BaseUpdate(config, clock, filter_side))


@pytest.fixture
def box(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> Box:
    return make_box(tmp_path / "box", web, pki, repository)
