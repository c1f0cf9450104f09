"""A release by the command line: killed at any moment, approved by two, reverted; keys replaced by a ceremony."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.publish.tufclient import client, fetched
from vigie.contract.base import CURRENT, Descriptor
from vigie_department.signer.client import Signer

from .conftest import PASSPHRASES, PROGRAM, Place

pytestmark = [pytest.mark.integration]


@pytest.fixture
def ready(place: Place) -> Place:
    place.run("migrate")
    (place.config.paths.etc / "phrases").write_text("\n".join(PASSPHRASES) + "\n", encoding="utf-8")
    (place.config.paths.etc / "phrase").write_text("la phrase des opérateurs\n", encoding="utf-8")
    for name in ("alice", "bob"):
        file = place.config.paths.etc / f"{name}.pem"
        place.run("operator", "add", name, "--key", file, "--passphrase-file", place.config.paths.etc / "phrase")
    return place


def served(place: Place, box: Path) -> Descriptor:
    root = (place.config.paths.trust / "tuf-root.json").read_bytes()
    updater = client(place.config.paths.repository, box, root, time.time())
    return Descriptor.from_bytes(fetched(updater, CURRENT))


def status(place: Place) -> dict[int, str]:
    rows = json.loads(place.run("base", "status", "--json"))["releases"]
    return {row["version"]: row["stage"] for row in rows}


def to_all(place: Place) -> None:
    """What is on its way goes to all, approved by two."""
    text = place.run("base", "advance", "--emergency", "--as", "alice")
    number = text.split("approve ")[1].split()[0]
    for name in ("alice", "bob"):
        key = place.config.paths.etc / f"{name}.pem"
        place.run("approve", number, "--as", name, "--key", key, "--passphrase-file", place.config.paths.etc / "phrase")


def test_from_feeds_to_all_boxes_and_back(ready: Place, tmp_path: Path) -> None:
    text = ready.run("base", "publish", ready.feeds("45.9.148.1", "192.168.1.7"), "--as", "alice")
    assert "192.168.1.7" in text and "chez 5 % des boîtiers" in text
    assert served(ready, tmp_path / "box").share == 5
    assert "two operators" in ready.run("base", "advance", code=1)
    to_all(ready)
    text = ready.run("base", "publish", ready.feeds("45.9.148.1", "45.9.148.2"), "--as", "alice")
    assert "+ 45.9.148.2" in text and "à l'essai" in text
    assert served(ready, tmp_path / "box").candidate is not None
    to_all(ready)
    assert status(ready) == {1: "superseded", 3: "all"}
    ready.run("base", "revert", "--as", "alice")
    assert status(ready) == {1: "superseded", 3: "reverted", 4: "all"}
    after = served(ready, tmp_path / "box")
    assert (after.released.version, after.share) == (4, 100)
    assert "chez tous les boîtiers" in ready.run("base", "status")


def test_new_online_keys_reach_a_box_of_the_first_image(ready: Place, tmp_path: Path) -> None:
    ready.run("base", "publish", ready.feeds("45.9.148.1"))
    image = (ready.config.paths.trust / "tuf-root.json").read_bytes()
    assert served(ready, tmp_path / "known").released.version == 1
    phrases = ready.config.paths.etc / "phrases"
    text = ready.run("keys", "rotate-online", "--offline", ready.config.paths.offline, "--passphrases", phrases)
    assert "root.json 2" in text
    ready.run("base", "refresh")
    assert served(ready, tmp_path / "known").released.version == 1
    updater = client(ready.config.paths.repository, tmp_path / "new", image, time.time())
    fetched(updater, "keys/steering.json")
    # elsewhere, one person after the other
    proposal = tmp_path / "stick" / "proposal.json"
    proposal.parent.mkdir()
    ready.run("keys", "renew", "--proposal", proposal)
    for number in ("2", "4"):
        words = ("--offline", ready.config.paths.offline, "--keyholders", number, "--passphrases", phrases)
        assert f"signé par : {number}" in ready.run("keys", "sign", proposal, *words)
    assert "root.json 3" in ready.run("keys", "install", proposal)
    assert served(ready, tmp_path / "known").released.version == 1
    assert "jours" in ready.run("keys", "status")


@pytest.mark.slow
def test_kill_9_in_the_middle_of_publishing(ready: Place, tmp_path: Path) -> None:
    ready.run("base", "publish", ready.feeds("45.9.148.1"))
    to_all(ready)
    box = tmp_path / "box"
    before = served(ready, box).released.version
    seen: set[str] = set()
    for n in range(4):
        feeds = ready.feeds("45.9.148.1", f"45.9.148.{n + 2}")
        words = [PROGRAM, "base", "publish", feeds, "--replace", "--as", "alice"]
        process = subprocess.Popen(words, env=ready.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        repository = ready.config.paths.repository
        count = len(list(repository.rglob("*")))
        deadline = time.monotonic() + 60
        # killed while it writes: after the first new file, the third, ...
        while len(list(repository.rglob("*"))) <= count + 2 * n and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        seen.add("ended" if process.wait(60) == 0 else "killed")
        after = served(ready, box)
        assert after.released.version == before
        ready.run("base", "refresh")
        assert served(ready, box).released.version == before
    assert "killed" in seen
    ready.run("base", "publish", ready.feeds("45.9.148.1", "45.9.148.200"), "--replace")
    to_all(ready)
    assert served(ready, box).released.version > before
    assert isinstance(ready.signer, Signer)
    assert "chaîne intacte" in ready.run("log", "verify")
