"""The repository on disk: whole at any instant, old files gone in time; the compiler's failures told as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie.contract.base import CURRENT
from vigie_department.base.compiler import Compiler
from vigie_department.errors import DepartmentError, PublishError
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.repository import Repository

from .conftest import Bench, expect
from .tufclient import client, fetched

DAY = 86400.0


def test_clients_of_the_first_image_follow_months_later(bench: Bench, tmp_path: Path) -> None:
    root = (bench.config.paths.trust / "tuf-root.json").read_bytes()
    bench.everywhere("45.9.148.1")
    for _month in range(5):
        bench.clock.now += 30 * DAY
        bench.publisher.refresh()
    updater = client(bench.repository.folder, tmp_path / "box", root, bench.clock())
    assert b'"released"' in fetched(updater, CURRENT)


def test_a_repository_that_is_not_refreshed_expires(bench: Bench, tmp_path: Path) -> None:
    from tuf.api.exceptions import ExpiredMetadataError

    root = (bench.config.paths.trust / "tuf-root.json").read_bytes()
    with pytest.raises(ExpiredMetadataError):
        client(bench.repository.folder, tmp_path / "box", root, bench.clock() + 8 * DAY)


def test_old_files_stay_for_days_and_then_go(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1")
    bench.everywhere("45.9.148.1", "45.9.148.2")
    old = [*bench.repository.targets.rglob("*.base-2.vgb")]
    assert len(old) == 1, "the candidate was served"
    bench.publisher.refresh()
    bench.clock.now += 13 * DAY
    bench.publisher.refresh()
    assert old[0].exists()
    bench.clock.now += 2 * DAY
    found = bench.publisher.refresh()
    assert not old[0].exists() and found.removed > 3
    assert found.missing == ()
    assert len(list(bench.repository.metadata.glob("*.json"))) < 12
    assert bench.served(tmp_path / "box").released.version == 3


def test_every_root_stays(bench: Bench) -> None:
    ancient = bench.repository.metadata / "1.root.json"
    assert ancient.exists()
    for _year in range(3):
        bench.clock.now += 300 * DAY
        bench.publisher.refresh()
    assert ancient.exists()


def test_a_target_that_went_missing_is_told(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    next(bench.repository.targets.rglob("*.base-1.vgb")).unlink()
    assert bench.publisher.refresh().missing == ("base/base-1.vgb",)


def test_timestamp_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    from vigie_department.signer import repository

    real = repository.write_atomically

    def spy(path: Path, data: bytes, mode: int = 0o644) -> None:
        written.append(path.name)
        real(path, data, mode)

    monkeypatch.setattr(repository, "write_atomically", spy)
    Repository(tmp_path).publish({"timestamp.json": b"1", "1.root.json": b"2", "5.snapshot.json": b"3"})
    assert written[-1] == "timestamp.json" and len(written) == 3


@pytest.mark.parametrize("name", ["../x.json", "timestamp.json/..", "root.json", "1.other.json", "", "1.root.json\n"])
def test_names_that_are_no_metadata_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(PublishError, match="is not a name"):
        Repository(tmp_path).publish({name: b"x"})


def test_a_target_that_is_too_short_is_missing(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    info = repository.add("base/x", b"12345")
    assert repository.missing({"base/x": info}) == []
    assert repository.missing({"base/x": TargetInfo(6, info.sha256)}) == ["base/x"]


def test_a_feed_that_cannot_be_read_is_the_compilers_word(bench: Bench) -> None:
    with expect(PublishError, "no such file"):
        bench.publisher.prepare([bench.config.paths.base / "nowhere.txt"], "alice")


def test_a_compiler_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="is not here"):
        Compiler("no-such-vigie").show(tmp_path / "x")


@pytest.mark.parametrize(
    ("script", "word"), [("echo no json", "failed"), ("echo '[]'", "an error"), ("exit 3", "code 3")]
)
def test_a_compiler_that_says_something_else(tmp_path: Path, script: str, word: str) -> None:
    program = tmp_path / "vigie"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(DepartmentError, match=word):
        Compiler(str(program)).show(tmp_path / "x")
