"""The lock pins everything, with hashes, and names no place to download from."""

from __future__ import annotations

import re
from pathlib import Path

ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host|@ file")


def requirements(path: Path) -> dict[str, str]:
    """Name -> the rest of the requirement, continuation lines joined, comments dropped."""
    lines = [line.split(" #")[0] for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(line for line in lines if line.strip() and not line.strip().startswith("#")))
    found = {}
    for line in text.splitlines():
        name = re.match(r"[\w.-]+", line)
        assert name, line
        found[re.sub(r"[-_.]+", "-", name[0]).lower()] = line[name.end() :]
    return found


def test_no_address(repo_root: Path) -> None:
    for name in ("requirements.in", "requirements.txt"):
        text = (repo_root / name).read_text(encoding="utf-8")
        assert ADDRESS.search(text) is None, name


def test_everything_is_pinned_with_hashes(repo_root: Path) -> None:
    for name, rest in requirements(repo_root / "requirements.txt").items():
        assert re.match(r"==[\w.]+ ", rest), f"{name}: not pinned"
        assert "--hash=sha256:" in rest, f"{name}: no hash"


def test_the_lock_covers_what_is_asked_for(repo_root: Path) -> None:
    asked = set(requirements(repo_root / "requirements.in"))
    assert asked <= set(requirements(repo_root / "requirements.txt"))
