"""A target folder as the recipes fill it: units, configuration, users, in a scratch folder that nothing boots."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "package" / "vigie"
USERS = PACKAGE / "users.table"
UNITS = Path("usr/lib/systemd/system")
PROGRAMS = ("usr/bin/vigie", "usr/bin/micropython")
"""What the image has from elsewhere, as far as units name it."""


def install(target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """install.sh into `target`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VIGIE_")}
    return subprocess.run(
        [str(PACKAGE / "install.sh"), str(target)],
        capture_output=True, text=True, check=False, timeout=60, env=kept | environment,
    )  # fmt: skip


def trust_folder(folder: Path) -> Path:
    """The public files of a department, as far as the image looks at them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("roots.pem", "-----BEGIN CERTIFICATE-----\n"), ("tuf-root.json", "{}\n"), ("steering.json", "{}\n"),
        ("domain", "vigie.lab\n"),
    ):  # fmt: skip
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target with a department, built for the CM4."""
    folder = tmp_path_factory.mktemp("target")
    trust = trust_folder(tmp_path_factory.mktemp("department") / "trust")
    done = install(folder, VIGIE_TRUST=str(trust), VIGIE_BOARD="cm4", SOURCE_DATE_EPOCH="1790000000")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cp", "-a", f"{ROOT}/overlays/common/.", str(folder)], check=True, timeout=30)
    return folder


@dataclass(frozen=True, slots=True)
class User:
    """A line of Buildroot's users table."""

    name: str
    uid: int
    group: str
    gid: int
    password: str
    home: str
    shell: str
    groups: tuple[str, ...]


def users() -> list[User]:
    """Every line of the table; groups alone have the name `-`."""
    found = []
    for line in USERS.read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        name, uid, group, gid, password, home, shell, groups = text.split(None, 8)[:8]
        found.append(
            User(
                name,
                int(uid),
                group,
                int(gid),
                password,
                home,
                shell,
                () if groups == "-" else tuple(groups.split(",")),
            )
        )
    return found


class Unit:
    """A unit file, read as systemd reads it: the settings of each section, in order; an empty one clears a list."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.settings: list[tuple[str, str, str]] = []
        section = ""
        for line in path.read_text().replace("\\\n", " ").splitlines():
            text = line.strip()
            if not text or text[0] in "#;":
                continue
            if text.startswith("["):
                section = text.strip("[]")
                continue
            key, _, value = text.partition("=")
            self.settings.append((section, key, value.strip()))

    def all(self, key: str, section: str = "") -> list[str]:
        """Values of a setting, one a line of the file."""
        return [value for where, name, value in self.settings if name == key and section in ("", where)]

    def words(self, key: str) -> list[str]:
        """Words of a list setting."""
        return [word for value in self.all(key) for word in value.split()]

    def one(self, key: str, default: str = "") -> str:
        """The last value of a setting."""
        values = self.all(key)
        return values[-1] if values else default


def units(kind: str = "service") -> list[Unit]:
    """The recipe's units of a kind."""
    return [Unit(path) for path in sorted(PACKAGE.glob(f"*.{kind}"))]
