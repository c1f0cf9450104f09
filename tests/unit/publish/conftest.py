"""A publisher with the real compiler, a real signer in the same process, and figures that the test chooses."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import dsse
from vigie.contract.base import CURRENT, Descriptor
from vigie_department import config as configuration
from vigie_department.base.build import Workshop
from vigie_department.base.compiler import Compiler
from vigie_department.base.judge import Comparison, Refusals, Trial
from vigie_department.base.publisher import Publisher
from vigie_department.base.release import Release
from vigie_department.base.serving import Serving
from vigie_department.base.settings import PublishSettings
from vigie_department.base.store import FileStore
from vigie_department.config import Config
from vigie_department.errors import DepartmentError, PublishError, RefusedError
from vigie_department.signer import keys
from vigie_department.signer.client import Signer
from vigie_department.signer.commands import approve
from vigie_department.signer.repository import Repository
from vigie_department.signer.service import TOLD, Service
from vigie_department.signer.settings import SignerSettings

from .tufclient import client, fetched

NOW = 1_800_000_000.0
PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]
_NONE = Refusals(0, 0, 0, 0)


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class DirectSigner(Signer):
    """The client's face of a service in this process: same calls, same errors, no socket."""

    service: Service | None = None

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        assert self.service is not None
        name = {"log": "read_log"}.get(op, op.replace("-", "_"))
        try:
            answer: dict[str, Any] = getattr(self.service, name)("test", params)
        except TOLD as e:
            raise RefusedError(f"signer: {e}", getattr(e, "code", "failed")) from e
        return answer


class InProcess(Compiler):
    """The program `vigie` without starting a process for each step: the same command line, the same output."""

    def _run(self, argv: list[str], fine: tuple[int, ...] = (0,)) -> dict[str, Any]:
        from vigie.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["base", *argv, "--json"])
        if code not in fine:
            raise PublishError(f"`vigie base {argv[0]}` failed: {err.getvalue()}")
        answer: dict[str, Any] = json.loads(out.getvalue())
        return answer


@dataclass
class Counts:
    """Figures that a test sets."""

    comparison: Comparison = field(default_factory=lambda: Comparison(_NONE, _NONE, _NONE, _NONE))
    seen: Trial = field(default_factory=lambda: Trial(0, 0, ()))

    def wave(self, version: int, share: int, since: float, until: float) -> Comparison:
        return self.comparison

    def trial(self, candidate: int) -> Trial:
        return self.seen


@dataclass
class Bench:
    config: Config
    clock: Clock = field(default_factory=Clock)
    counts: Counts = field(default_factory=Counts)
    settings: PublishSettings = field(default_factory=PublishSettings)
    announced: list[int] = field(default_factory=list)
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start()

    def start_again(self) -> None:
        """As after a power cut: everything is read from the disk."""
        self.service.close()
        self._start()

    def _start(self) -> None:
        settings = SignerSettings(publish_burst=1000, refresh_burst=1000)
        self.service = Service(self.config.paths.signer, self.config.paths.repository, settings, clock=self.clock)
        self.signer = DirectSigner(self.config.paths.signer_socket, service=self.service)
        self.store = FileStore(self.config.paths.base / "releases.json")
        self.work = Workshop(self.config.paths.base / "versions", InProcess())
        self.repository = Repository(self.config.paths.repository)
        self.restart()

    def restart(self, **settings: Any) -> Publisher:
        self.settings = replace(self.settings, **settings)
        self.publisher = Publisher(
            folder=self.config.paths.base,
            serving=Serving(self.repository, self.signer, self.work),
            store=self.store,
            counts=self.counts,
            settings=self.settings,
            announce=self.announced.append,
            clock=self.clock,
        )
        return self.publisher

    def feeds(self, *lines: str, redistributable: bool = True, licence: str = "MIT") -> list[Path]:
        """A feed set with these lines, blocking."""
        folder = self.config.paths.base / "feeds"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        path = folder / "feeds.yaml"
        path.write_text(
            "version: 1\nfeeds:\n  - {name: list, file: list.txt, category: c2, direction: both, action: block, "
            f"source: 'https://example.org', licence: '{licence}', redistributable: {str(redistributable).lower()}}}\n",
            encoding="utf-8",
        )
        return [path]

    def addresses(self, count: int) -> list[str]:
        """Every other address, so that none merges with its neighbour."""
        return [f"45.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(1, 2 * count, 2)]

    def operator(self, name: str) -> None:
        self.keys[name] = Ed25519PrivateKey.generate()
        self.signer.call("operator-add", name=name, public=dsse.public_bytes(self.keys[name]).hex())

    def approve(self, release: Release, name: str) -> None:
        rows = {row["id"]: row for row in self.signer.call("requests")["requests"]}
        approve(self.signer, rows[release.approval], name, self.keys[name])

    def everywhere(self, *lines: str) -> Release:
        """A base that went through all its waves without a word from the fleet."""
        self.publisher.start(self.publisher.prepare(self.feeds(*lines), "alice"))
        for _step in range(4):
            self.clock.now += 25 * 3600
            if self.publisher.tick() is None:
                break
        return self.releases()[-1]

    def releases(self) -> list[Release]:
        return self.publisher.releases()

    def stages(self) -> dict[int, str]:
        return {r.version: r.stage.value for r in self.releases()}

    def served(self, folder: Path) -> Descriptor:
        """What a box reads: python-tuf's own client, from the trust of the image."""
        root = (self.config.paths.trust / "tuf-root.json").read_bytes()
        updater = client(self.repository.folder, folder, root, self.clock())
        return Descriptor.from_bytes(fetched(updater, CURRENT))


def expect(error: type[DepartmentError], text: str) -> Any:
    return pytest.raises(error, match=text)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    file = configuration.file_of(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(configuration.render("vigie.test", root=tmp_path), encoding="utf-8")
    config = configuration.load(file)
    keys.create(config, config.paths.offline, PASSPHRASES, now=NOW - 1)
    made = Bench(config)
    yield made
    made.service.close()
