"""A department under one folder, with the real daemon and the real command line, each in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import department
from vigie_department.config import Config
from vigie_department.signer import keys
from vigie_department.signer.client import Signer

PROGRAM = Path(sys.executable).with_name("vigie-department")
PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]
READY_S = 60.0


@dataclass
class Place:
    """The department; `daemon` is its signer while it runs."""

    config: Config
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VIGIE_DEPARTMENT_CONFIG": str(self.config.path), "VIGIE_LANG": "fr"}

    @property
    def signer(self) -> Signer:
        return Signer(self.config.paths.signer_socket)

    def start(self) -> None:
        self.config.paths.run.mkdir(parents=True, exist_ok=True)
        log = (self.config.paths.run / "signer.log").open("ab")
        self.daemon = subprocess.Popen([PROGRAM, "signer"], env=self.environment, stderr=log)
        log.close()
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.signer.status()
                return
            except Exception as e:
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    text = (self.config.paths.run / "signer.log").read_text(encoding="utf-8")
                    raise AssertionError(f"the signer does not answer ({e}): {text}") from e
                time.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        code = self.daemon.wait(60)
        self.daemon = None
        return code

    def run(self, *words: str | Path, code: int = 0) -> str:
        done = subprocess.run(
            [PROGRAM, *map(str, words)], env=self.environment, capture_output=True, timeout=100, check=False
        )
        text = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, f"{words}: {done.returncode}\n{text}"
        return text

    def feeds(self, *lines: str) -> Path:
        folder = self.config.paths.base / "feeds"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        path = folder / "feeds.yaml"
        path.write_text(
            "version: 1\nfeeds:\n  - {name: list, file: list.txt, category: c2, direction: both, action: block, "
            "source: 'https://example.org', licence: MIT, redistributable: true}\n",
            encoding="utf-8",
        )
        return path


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    config = department.write(tmp_path_factory.mktemp("d"), "vigie.test")
    keys.create(config, config.paths.offline, PASSPHRASES)
    made = Place(config)
    made.start()
    yield made
    if made.daemon is not None:
        made.kill(signal.SIGTERM)
