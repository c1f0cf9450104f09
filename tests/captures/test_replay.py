"""Replay through the real data path: verdicts, reasons, indicators and journal of captures; nothing upsets it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.captures import samples
from vigie.cli.main import main
from vigie.contract.codes import Category, Reason, Verdict
from vigie.filter.base.additions import TEST_ADDRESS4, TEST_NAME
from vigie.filter.replay import Replay

pytestmark = pytest.mark.bpf

OBJECT = Path(__file__).parents[2] / "firmware" / "bpf" / "build" / "filter.bpf.o"


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(OBJECT) as machine:
        yield machine


def test_an_ordinary_moment_passes(replay: Replay) -> None:
    summary = replay.run(samples.DATA / "office.pcap")
    data = summary.to_json()
    assert data["verdicts"] == {"pass": summary.frames}, data
    assert not data["blocked"]
    assert set(summary.names) == {"www.example.org", "quic.example.org"}
    assert summary.devices == {samples.PC: "pc-accueil"}
    assert summary.held == 4
    assert summary.first_ns == samples.START_NS
    assert summary.gateways == (samples.ROUTER,)
    assert summary.onlink == ("192.168.7.0/24",)


@pytest.mark.parametrize("name", ["toxic.pcapng", "cooked.pcapng", "raw.pcap", "loopback.pcap"])
def test_toxic_traffic_is_blocked_whatever_the_link_layer(replay: Replay, name: str) -> None:
    summary = replay.run(samples.DATA / name)
    found = {(hit.reason, hit.indicator): hit for hit in summary.hits.values()}
    assert set(found) == {
        (Reason.TOXIC_DNS, TEST_NAME),
        (Reason.TOXIC_SNI, TEST_NAME),
        (Reason.TOXIC_SNI, f"sub.{TEST_NAME}"),
        (Reason.TOXIC_ADDRESS, TEST_ADDRESS4),
    }, summary.to_json()
    assert {hit.category for hit in found.values()} == {Category.TEST}
    assert found[Reason.TOXIC_DNS, TEST_NAME].verdict is Verdict.NXDOMAIN
    assert found[Reason.TOXIC_SNI, TEST_NAME].verdict is Verdict.REFUSE
    assert found[Reason.TOXIC_ADDRESS, TEST_ADDRESS4].ports == {8080}
    assert summary.by_verdict[Verdict.HOLD] == 0
    assert summary.by_verdict[Verdict.NXDOMAIN] == 1
    # The PC's two held frames of each hello, its FIN's acknowledgement apart: refused, not passed.
    assert summary.by_verdict[Verdict.REFUSE] >= 4


def test_tags_and_ipv6(replay: Replay) -> None:
    summary = replay.run(samples.DATA / "tagged-be-ns.pcap")
    (hit,) = summary.hits.values()
    assert (hit.indicator, hit.packets, hit.minutes) == (TEST_NAME, 2, 1)
    assert hit.first == samples.START_NS / 1e9


def test_damaged_and_foreign_files(replay: Replay) -> None:
    summary = replay.run(samples.DATA / "cut.pcap")
    assert "middle of a record" in summary.problem
    assert summary.frames == len(samples.office()) - 1
    summary = replay.run(samples.DATA / "radio.pcap")
    assert summary.frames == 0
    assert any("802.11" in why for why in summary.unread)


def test_files_do_not_influence_each_other(replay: Replay) -> None:
    runs = [replay.run(samples.DATA / "toxic.pcapng").to_json() for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


def test_large_frames_and_snap_length(replay: Replay, tmp_path: Path) -> None:
    (first, _, _, *rest) = samples.connection(samples.SERVER4, 80, [b"x" * 20_000])
    merged = rest[0]
    data = bytearray(samples.pcap([first, merged]))
    cut = samples.pcap([first[:40]])
    cut = cut[:24] + cut[24:36] + len(first).to_bytes(4, "little") + cut[40:]
    for name, content in (("merged.pcap", bytes(data)), ("snapped.pcap", cut)):
        (tmp_path / name).write_bytes(content)
    summary = replay.run(tmp_path / "merged.pcap")
    assert summary.adapted == {"segmented": 1}
    assert summary.frames == 15
    summary = replay.run(tmp_path / "snapped.pcap")
    assert summary.adapted == {"completed": 1}
    assert summary.by_reason[Reason.DEFAULT] == 1


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "journal.db"
    files = [str(samples.DATA / name) for name in ("toxic.pcapng", "office.pcap")]
    assert main(["replay", *files, "--object", str(OBJECT), "--journal", str(journal), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [len(file["blocked"]) for file in data["files"]] == [4, 0]
    with closing(sqlite3.connect(journal)) as db:
        rows = db.execute("SELECT device, destination, reason, minute FROM attempts ORDER BY destination").fetchall()
    assert (samples.PC, TEST_ADDRESS4, int(Reason.TOXIC_ADDRESS), samples.START_NS // 60_000_000_000) in rows
    assert {row[1] for row in rows} == {TEST_ADDRESS4, TEST_NAME, f"sub.{TEST_NAME}"}
    assert main(["replay", files[0], "--object", str(OBJECT), "--lan", "192.168.7.0/24"]) == 0
    assert TEST_NAME in capsys.readouterr().out


def test_command_line_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.pcap").write_text("no capture")
    assert main(["replay", str(tmp_path / "text.pcap"), "--object", str(OBJECT)]) == 1
    assert "neither pcap nor pcapng" in capsys.readouterr().err
    both = [str(tmp_path / "text.pcap"), str(samples.DATA / "office.pcap")]
    assert main(["replay", *both, "--object", str(OBJECT), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (len(data["files"]), len(data["failed"])) == (1, 1)
    assert main(["replay", both[1], "--object", str(OBJECT), "--lan", "nonsense"]) == 2


@pytest.mark.slow
def test_every_capture_is_replayed(replay: Replay, captures: list[Path]) -> None:
    """No exception, every frame gets a verdict, and what could not be injected is said."""
    frames = 0
    for path in captures:
        summary = replay.run(path)
        frames += summary.frames
        assert summary.packets <= summary.frames + sum(summary.unread.values()), path.name
        assert sum(summary.by_verdict) == sum(summary.by_reason) == summary.frames, path.name
        assert summary.by_verdict[Verdict.HOLD] == 0, path.name
        json.dumps(summary.to_json())
    assert frames


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
def test_a_hello_out_of_order_is_read_all_the_same(replay: Replay, tmp_path: Path, order: tuple[int, ...]) -> None:
    first, second = samples.hello(TEST_NAME)
    pieces = [first, second] if len(order) == 2 else [first[:500], first[500:], second]
    frames = samples.connection(
        samples.SERVER4, 443, pieces, sport=50_100 + sum(10**i * n for i, n in enumerate(order))
    )
    data = frames[3:-1]
    (tmp_path / "f.pcap").write_bytes(samples.pcap([*frames[:3], *(data[i] for i in order), frames[-1]]))
    summary = replay.run(tmp_path / "f.pcap")
    (hit,) = summary.hits.values()
    assert (hit.reason, hit.indicator) == (Reason.TOXIC_SNI, TEST_NAME)
    assert summary.held == len(order)
    assert summary.by_verdict[Verdict.REFUSE] >= len(order)


def test_journal_keeps_one_row_per_device_indicator_and_minute(replay: Replay, tmp_path: Path) -> None:
    """An hour of one question a minute, asked thrice each time."""
    frames = [samples.question(TEST_NAME, n % 9, "198.51.100.53") for n in range(180)]
    raw = bytearray(samples.pcap(frames))
    size = 16 + len(frames[0])
    for number in range(180):
        at = 24 + number * size
        raw[at : at + 8] = (1_700_000_000 // 60 * 60 + number // 3 * 60).to_bytes(4, "little") + bytes(4)
    (tmp_path / "f.pcap").write_bytes(bytes(raw))
    (hit,) = replay.run(tmp_path / "f.pcap").hits.values()
    assert (hit.packets, hit.minutes) == (180, 60)
