"""The log of signatures: whatever happens to its files is noticed, and a crash costs nothing that was given out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie_department.signer.errors import LogBroken
from vigie_department.signer.log import CHECKPOINT, ChainedLog, Record, verify

from .conftest import Bench, box


class Memory:
    """What a reader of the log remembers."""

    def __init__(self) -> None:
        self.seen: list[Record] = []

    def replay(self, record: Record) -> None:
        self.seen.append(record)

    def checkpoint(self) -> dict[str, Any]:
        return {"sum": 1}


def opened(folder: Path, segment_records: int = 5) -> tuple[ChainedLog, Memory]:
    memory = Memory()
    return ChainedLog(folder, memory.replay, memory.checkpoint, segment_records=segment_records), memory


def filled(folder: Path, n: int, segment_records: int = 5) -> list[Path]:
    log, _ = opened(folder, segment_records)
    for i in range(n):
        log.append(1000.0 + i, "desired", "alice", "console", "d" * 64, {"n": i})
    log.close()
    return sorted(folder.glob("*.jsonl"))


def test_every_record_is_chained_and_segments_begin_with_a_checkpoint(tmp_path: Path) -> None:
    files = filled(tmp_path, 12)
    assert verify(tmp_path) == 14
    assert [path.name for path in files] == ["0000000001.jsonl", "0000000006.jsonl", "0000000011.jsonl"]
    for path in files[1:]:
        assert json.loads(path.read_text().splitlines()[0])["op"] == CHECKPOINT
    log, memory = opened(tmp_path)
    assert (log.seq, [record.seq for record in memory.seen]) == (14, [11, 12, 13, 14])
    assert [record.facts["n"] for record in log.after(0, 100)] == list(range(12))
    assert [record.facts["n"] for record in log.after(7, 2)] == [6, 7]
    log.close()


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("how", ["value", "removed", "swapped", "cut"])
def test_a_changed_log_is_noticed(tmp_path: Path, where: str, how: str) -> None:
    path = filled(tmp_path, 9, 100)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    i = {"first": 0, "middle": 4, "last": 8}[where]
    if how == "value":
        lines[i] = lines[i].replace(b'"who":"alice"', b'"who":"mallo"')
    elif how == "removed":
        del lines[i]
    elif how == "swapped":
        lines[i], lines[i - 1] = lines[i - 1], lines[i]
    else:
        lines[i:] = [lines[i][:30]]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogBroken):
        verify(tmp_path)
    with pytest.raises(LogBroken):
        opened(tmp_path, 100)


def test_a_rewritten_record_with_a_right_hash_breaks_the_chain_after_it(tmp_path: Path) -> None:
    path = filled(tmp_path, 5, 100)[0]
    lines = path.read_text().splitlines()
    old = json.loads(lines[2])
    new = Record.make(old["seq"], old["at"], "desired", "mallory", "console", old["digest"], {}, old["prev"])
    lines[2] = new.line().decode()
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(LogBroken, match="record 4"):
        verify(tmp_path)


def test_a_missing_segment_is_noticed(tmp_path: Path) -> None:
    files = filled(tmp_path, 14)
    kept = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(LogBroken, match="missing"):
        verify(tmp_path)
    files[1].write_bytes(kept)
    files[-2].unlink()
    with pytest.raises(LogBroken):
        opened(tmp_path)


def test_a_log_that_is_gone_is_noticed(tmp_path: Path) -> None:
    for path in filled(tmp_path, 3):
        path.unlink()
    with pytest.raises(LogBroken, match="gone"):
        opened(tmp_path)


@pytest.mark.slow
@given(cut=st.integers(1, 200))
def test_a_crash_in_the_middle_of_a_line_costs_that_line_only(tmp_path_factory: Any, cut: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    path = filled(folder, 4, 100)[0]
    last = path.read_bytes().splitlines()[-1]
    unfinished = Record.make(5, 1.0, "desired", "bob", "", "", {}, json.loads(last)["hash"]).line()
    with path.open("ab") as file:
        file.write(unfinished[: min(cut, len(unfinished))])
    log, memory = opened(folder, 100)
    assert len(memory.seen) == 4
    log.append(2.0, "desired", "alice", "", "", {})
    log.close()
    assert verify(folder) == 5


def test_a_crash_while_a_segment_begins_costs_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    (tmp_path / "0000000006.jsonl").touch()
    log, _ = opened(tmp_path)
    log.append(2.0, "desired", "alice", "", "", {})
    log.close()
    assert verify(tmp_path) == 7


def test_the_signer_does_not_start_on_a_broken_log(bench: Bench) -> None:
    bench.sign(bench.desired(box(1), 1))
    bench.sign(bench.desired(box(1), 2))
    bench.stop()
    path = next(bench.store.log.glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))
    with pytest.raises(LogBroken, match="chain is broken"):
        bench.restart()


def test_what_was_signed_is_remembered_over_segments(bench: Bench) -> None:
    bench.segment_records = 4
    for version in range(1, 12):
        bench.sign(bench.isolated(box(version % 5), version))
    bench.restart()
    assert verify(bench.store.log) > 12
    status = bench.service.status("", {})
    assert status["held"] == [box(n) for n in range(5)]
    for n in range(5):
        highest = max(v for v in range(1, 12) if v % 5 == n)
        assert bench.service._state.desired[box(n)] == highest


def test_a_full_disk_stops_signing_until_a_restart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sign(bench.desired(box(1), 1))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LogBroken, match="make room"):
        bench.sign(bench.desired(box(1), 2))
    monkeypatch.undo()
    with pytest.raises(LogBroken, match="make room"):
        bench.sign(bench.desired(box(1), 2))
    bench.restart()
    bench.sign(bench.desired(box(1), 2))
    bench.stop()
    assert verify(bench.store.log) == 2
