"""A department with its signer running, a release authority, and `vigie-ota` in processes of their own."""

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
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from tests.support import department
from tests.support.releases import Maker
from vigie.contract.firmware import FirmwareDescriptor, Version, firmware_path
from vigie_department.config import Config
from vigie_department.signer import keys
from vigie_department.signer.client import Signer
from vigie_department.signer.repository import Repository

OTA = Path(sys.executable).with_name("vigie-ota")
DEPARTMENT = Path(sys.executable).with_name("vigie-department")
PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]
READY_S = 60.0


class Served(FetcherInterface):
    """The repository's files as the web server would give them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / url.removeprefix("http://maj/")
        if not path.is_file():
            from tuf.api.exceptions import DownloadHTTPError

            raise DownloadHTTPError("not found", 404)
        yield path.read_bytes()


@dataclass
class World:
    """Everything. `sticks`: one keyholder each, as they are carried."""

    folder: Path
    config: Config
    maker: Maker
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def repository(self) -> Repository:
        return Repository(self.config.paths.repository)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VIGIE_DEPARTMENT_CONFIG": str(self.config.path), "VIGIE_LANG": "fr"}

    def start(self) -> None:
        self.config.paths.run.mkdir(parents=True, exist_ok=True)
        with (self.config.paths.run / "signer.log").open("ab") as log:
            self.daemon = subprocess.Popen([DEPARTMENT, "signer"], env=self.environment, stderr=log)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                Signer(self.config.paths.signer_socket).status()
                return
            except Exception as e:
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    text = (self.config.paths.run / "signer.log").read_text(encoding="utf-8")
                    raise AssertionError(f"the signer does not answer ({e}): {text}") from e
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(number)
            self.daemon.wait(60)
            self.daemon = None

    def ota(self, *words: str | Path, code: int = 0) -> str:
        """What `vigie-ota` said; AssertionError unless it returned `code`."""
        done = subprocess.run(
            [OTA, *map(str, words)], env=self.environment, capture_output=True, timeout=100, check=False
        )
        text = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, f"{words}: {done.returncode}\n{text}"
        return text

    def department(self, *words: str | Path) -> str:
        """The same for `vigie-department`."""
        done = subprocess.run(
            [DEPARTMENT, *map(str, words)], env=self.environment, capture_output=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    @property
    def passphrases(self) -> Path:
        path = self.folder / "passphrases"
        path.write_text("\n".join(PASSPHRASES) + "\n", encoding="utf-8")
        return path

    def stick(self, number: int) -> Path:
        """One keyholder's stick."""
        folder = self.folder / f"stick-{number}"
        folder.mkdir(exist_ok=True)
        name = f"keyholder-{number}.pem"
        (folder / name).write_bytes((self.config.paths.offline / name).read_bytes())
        return folder

    def descriptor(self, *bundles: Path, **options: str) -> Path:
        """Made by the command."""
        path = self.folder / f"{bundles[0].stem}.json"
        more = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.ota(
            "descriptor", *bundles, "-o", path, "--keyring", self.maker.keyring,
            "--note-fr", "Corrige l’heure.", "--note-en", "Fixes the time.", *more,
        )  # fmt: skip
        return path

    def request(self, *descriptors: Path) -> Path:
        path = self.folder / f"request-{descriptors[0].stem}.json"
        self.ota("sign", "request", path, *descriptors)
        return path

    def sign(self, request: Path, *numbers: int) -> list[Path]:
        """Each with a stick of their own, which is all that is there."""
        made = []
        for number in numbers:
            target = self.folder / f"{request.stem}.{number}.sig"
            self.ota(
                "sign", "add", request, "--offline", self.stick(number), "--passphrases", self.passphrases, "-o", target
            )
            made.append(target)
        return made

    def publish(self, request: Path, signatures: list[Path], *bundles: Path, code: int = 0) -> str:
        return self.ota(
            "publish", request, *signatures, "--keyring", self.maker.keyring, "--bundles", *bundles, code=code
        )

    def release(self, *bundles: Path, **options: str) -> None:
        """The whole way."""
        request = self.request(self.descriptor(*bundles, **options))
        self.publish(request, self.sign(request, 1, 4), *bundles)

    def box(self) -> Updater:
        """A TUF client that knows the first root only, as a box from the shelf does."""
        folder = self.folder / f"box-{time.monotonic_ns()}"
        folder.mkdir()
        root = (self.repository.metadata / "1.root.json").read_bytes()
        return Updater(
            str(folder), "http://maj/metadata/", str(folder), "http://maj/targets/",
            fetcher=Served(self.config.paths.repository), bootstrap=root,
        )  # fmt: skip

    def seen(self, version: Version) -> FirmwareDescriptor | None:
        """What a box finds under a version."""
        box = self.box()
        box.refresh()
        info: TargetFile | None = box.get_targetinfo(firmware_path(version))
        if info is None:
            return None
        return FirmwareDescriptor.from_bytes(Path(box.download_target(info)).read_bytes())


@pytest.fixture
def world(tmp_path: Path, authority: Maker) -> Iterator[World]:
    config = department.write(tmp_path / "d", "vigie.test")
    keys.create(config, config.paths.offline, PASSPHRASES)
    made = World(tmp_path, config, authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker.create(tmp_path_factory.mktemp("releases"))
