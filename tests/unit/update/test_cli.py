"""`vigie update base status`: words and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vigie.cli import main
from vigie.update.codes import Code
from vigie.update.store import Status, Store


@pytest.fixture
def box(tmp_path: Path) -> tuple[Path, Store]:
    config = tmp_path / "box.yaml"
    config.write_text(f"domain: vigie.test\npaths:\n  state: {tmp_path / 'state'}\n  trust: {tmp_path / 'trust'}\n")
    return config, Store(tmp_path / "state" / "update")


def status(config: Path, *more: str) -> int:
    return main(["update", "base", "status", "--config", str(config), *more])


def test_before_the_first_look(box: tuple[Path, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(box[0]) == 0
    assert "La mise à jour démarre" in capsys.readouterr().out


def test_a_base_in_service(box: tuple[Path, Store], capsys: pytest.CaptureFixture[str]) -> None:
    config, store = box
    said = Status(Code.UPDATED.value, 1.0, 2.0, "", 7, True, 8, (), 1_790_000_000.0, 1.25, "patched", 900)
    store.tell(said)
    assert store.status() == said
    assert status(config) == 0
    out = capsys.readouterr().out
    assert "Base en service : 7 (à l'essai)" in out and "Base publiée pour ce boîtier : 8" in out and "1.25 s" in out
    assert status(config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == 7


def test_a_refusal(box: tuple[Path, Store], capsys: pytest.CaptureFixture[str]) -> None:
    config, store = box
    store.tell(Status(Code.REFUSED.value, detail="base 9 is refused", version=8, wanted=9, limits=("limit-cover4",)))
    assert status(config) == 1
    out = capsys.readouterr().out
    assert "dépasse ce que le boîtier accepte" in out and "! base 9 is refused" in out


def test_a_spoilt_status_file_is_none(box: tuple[Path, Store]) -> None:
    config, store = box
    store.folder.mkdir(parents=True)
    (store.folder / "status.json").write_bytes(b'{"code": "upda')
    (store.folder / "base.json").write_bytes(b"[]")
    assert status(config) == 0
    assert store.memory().newest == 0 and store.refused("x", 0.0) == ()


def test_a_look_without_trust_files_says_so(box: tuple[Path, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "base", "once", "--config", str(box[0])]) == 0
    assert "pas encore rattaché" in capsys.readouterr().out


def test_refusals_are_remembered_for_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.refuse("aa", ("limit-cover4",), 1000.0)
    assert store.refused("aa", 2000.0) == ("limit-cover4",)
    assert store.refused("bb", 2000.0) == () == store.refused("aa", 1000.0 + 86_400)
