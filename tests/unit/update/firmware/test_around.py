"""Around the decision: health and soak, hours of the week, files, texts, requests at the socket."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.cli import main
from vigie.contract.firmware import Check, FirmwareState, Phase, UpdateCode, Version
from vigie.host import software
from vigie.host.boxconfig import BoxConfig, Paths
from vigie.host.trusted_clock import ClockReader
from vigie.update.boot.opening import Places, Said
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware import health
from vigie.update.firmware.health import PATIENCE_S, SOAK_MAX_S, SOAK_S, Before, Ports, Seen, Soak, Verdict, look
from vigie.update.firmware.machine import Machine, System
from vigie.update.firmware.record import Record
from vigie.update.firmware.store import Store, shown, told
from vigie.update.firmware.texts import sentences
from vigie.update.firmware.week import HOURS, PER_DAY, Week, quiet_hours

NEW = Version(2026, 12, 1)
PORTS = ("eth0", "eth1")
WELL = Seen(
    100.0, {"at": 98.0, "base": 5, "attached": True}, PORTS, PORTS, (Ports(300, 290), Ports(250, 250)), True, True,
    1 << 30, 1 << 28, True,
)  # fmt: skip
BEFORE = Before(5, PORTS)


@pytest.mark.parametrize(
    ("seen", "check"),
    [
        (replace(WELL, heartbeat={}), Check.DATAPATH),
        (replace(WELL, uptime=200.0), Check.DATAPATH),
        (replace(WELL, heartbeat={"at": 98.0, "base": 5, "attached": False}), Check.DATAPATH),
        (replace(WELL, heartbeat={"at": 98.0, "base": 4, "attached": True}), Check.BASE),
        (replace(WELL, heartbeat={"at": 98.0, "base": 0, "attached": True}), Check.BASE),
        (replace(WELL, cables=("eth0",)), Check.FORWARD),
        (replace(WELL, forwarding=("eth1",)), Check.FORWARD),
        (replace(WELL, ways=(Ports(300, 0), Ports(250, 250))), Check.FORWARD),
        (replace(WELL, linked=False), Check.LINK),
        (replace(WELL, selftest=False), Check.SELFTEST),
        (replace(WELL, selftest=None), Check.SELFTEST),
        (replace(WELL, disk=-1), Check.DISK),
        (replace(WELL, disk=1 << 20), Check.DISK),
        (replace(WELL, memory=1 << 20), Check.MEMORY),
        (replace(WELL, signed=False), Check.TIME),
    ],
)
def test_each_check_fails_alone(seen: Seen, check: Check) -> None:
    assert {check} <= set(look(seen, BEFORE)) <= {check, Check.BASE}
    assert look(WELL, BEFORE) == {}


def test_a_silent_night_is_no_fault() -> None:
    quiet = replace(WELL, ways=(Ports(health.FRAMES_MIN - 1, 0), Ports(0, 0)))
    assert look(quiet, BEFORE) == {}
    assert look(replace(quiet, cables=(), forwarding=()), Before(5, ())) == {}  # no cable before either


def test_a_soak_takes_its_time_and_ends() -> None:
    soak = Soak(30.0)
    assert soak.judge({}, 31.0) is None
    assert soak.judge({Check.LINK: "x"}, 30.0 + SOAK_S) is None  # a department at rest is waited for
    assert soak.judge({}, 31.0 + SOAK_S) == Verdict(None)


@pytest.mark.parametrize("check", list(Check))
def test_each_check_has_its_patience(check: Check) -> None:
    soak = Soak(0.0)
    assert soak.judge({check: "why"}, 10.0) is None
    assert soak.judge({check: "why"}, 9.0 + PATIENCE_S[check]) is None
    verdict = soak.judge({check: "why"}, 10.0 + PATIENCE_S[check])
    assert verdict is not None and verdict.check is check and "why" in verdict.evidence


@given(st.lists(st.sets(st.sampled_from(sorted(Check)), max_size=3), min_size=40, max_size=40))
def test_every_soak_ends(moments: list[set[Check]]) -> None:
    soak, now = Soak(0.0), 0.0
    for failing in moments:
        now += SOAK_MAX_S / 39
        verdict = soak.judge(dict.fromkeys(failing, "x"), now)
        if verdict is not None:
            assert verdict.check is not None or (now >= SOAK_S and not failing)
            return
    raise AssertionError("neither good nor bad")


def learned(on: set[int], busy: set[int]) -> Week:
    return Week(tuple(1.0 * (i in on) for i in range(HOURS)), tuple(900.0 if i in busy else 10.0 for i in range(HOURS)))


def test_at_night_where_the_box_is_on() -> None:
    office = {day * 24 + hour for day in range(5) for hour in range(8, 18)}
    hours = quiet_hours(learned(set(range(HOURS)), office), ())
    assert {2, 3, 4} <= hours and not hours & office and len(hours) == 7 * PER_DAY


def test_in_the_quietest_hour_where_it_is_off_at_night() -> None:
    on = {day * 24 + hour for day in range(5) for hour in range(8, 18)}
    hours = quiet_hours(learned(on, on - {12, 36, 60, 84, 108}), [(day, 8 * 60, 18 * 60) for day in range(5)])
    assert {12, 36, 60, 84, 108} <= hours <= on


def test_before_the_mairie_opens_when_the_box_is_on_then() -> None:
    on = {day * 24 + hour for day in range(5) for hour in range(7, 18)}
    hours = quiet_hours(learned(on, set()), [(day, 8 * 60, 18 * 60) for day in range(5)])
    assert hours == {7, 31, 55, 79, 103}


def test_nothing_learned_yet() -> None:
    assert quiet_hours(Week(), ()) == {day * 24 + hour for day in range(7) for hour in (2, 3, 4)}


def test_a_habit_is_learned_in_a_week_and_unlearned_in_two() -> None:
    week, start = Week(), 500_000
    for hour in range(8, 11):
        week = week.counted(start + hour, hour, 100.0)
    assert quiet_hours(week, ()) == {8, 9, 10}
    back = week.counted(start + 2 * HOURS + 20, 20, 5.0)
    assert back.on[9] < 0.3 <= week.on[9] and quiet_hours(back, ()) == {20}
    assert week.counted(start, 0, 1.0) == week  # a clock that went back
    assert Week.from_dict(week.to_dict()).on[9] == week.on[9]
    assert Week.from_dict({"v": 1, "on": [2.0]}) == Week() and Week.from_dict(week.to_dict() | {"on": []}) == Week()


def test_the_floor_outlives_the_record(tmp_path: Path) -> None:
    store = Store(Paths(state=tmp_path, run=tmp_path / "run"))
    assert store.load() == Record()
    store.save(Record(NEW, 3, Phase.GOOD, floor=NEW))
    (store.folder / "record.json").write_text("{")
    assert store.load() == Record(floor=NEW)
    store.save(Record(NEW, 4, floor=Version(2026, 1, 0)))
    assert store.load().floor == NEW


def test_what_the_link_is_told(tmp_path: Path) -> None:
    paths = Paths(state=tmp_path, run=tmp_path / "run")
    store = Store(paths)
    assert told(paths) is None and shown(paths) is None
    store.tell(Record(), {})
    assert told(paths) is None  # no order yet
    store.tell(Record(NEW, 3, Phase.SOAK, tries=1), {"running": "x"})
    assert told(paths) == FirmwareState(NEW, 3, Phase.SOAK, tries=1)


def test_every_state_has_its_sentence() -> None:
    for phase in Phase:
        assert all("{" not in text for text in sentences(FirmwareState(NEW, 1, phase)))
    for code in UpdateCode:
        for check in Check:
            assert len(sentences(FirmwareState(NEW, 1, Phase.FAILED, code, check))) == 3


def test_the_status_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "box.yaml"
    config.write_text(f"domain: vigie.test\npaths:\n  state: {tmp_path}/state\n  run: {tmp_path}/run\n")
    command = ["update", "status", "--config", str(config)]
    assert main(command) == 1
    assert "n'a encore rien dit" in capsys.readouterr().out
    store = Store(Paths(state=tmp_path / "state", run=tmp_path / "run"))
    record = Record(NEW, 3, Phase.ROLLED_BACK, UpdateCode.UNHEALTHY, Check.LINK, tries=1, evidence="link: 5 s")
    store.tell(record, {"running": "2026.10.1", "evidence": "link: 5 s"})
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "revenu à la précédente" in out and "la liaison avec le département" in out and "! link: 5 s" in out
    assert main(["--json", *command]) == 1
    assert json.loads(capsys.readouterr().out)["state"]["tries"] == 1
    assert main(["update", "postpone", "--config", str(config), "--hours", "5"]) == 1
    assert "ne répond pas" in capsys.readouterr().out


def machine(folder: Path) -> Machine:
    paths = Paths(state=folder / "state", run=folder / "run", trust=folder / "trust", filter_socket=folder / "none")
    config = BoxConfig("vigie.test", paths=paths)
    for path in (paths.update, paths.run_update, paths.run_link):
        path.mkdir(parents=True)
    system = System(
        folder / "os-release", folder / "net", folder / "meminfo", replace(Places(), said=folder / "boot.json")
    )
    return Machine(config, ClockReader(paths.state, paths.run, paths.trust), system)


def test_the_machine_is_read_and_nothing_of_it_is_taken_for_granted(tmp_path: Path) -> None:
    box = machine(tmp_path)
    nothing = box.seen(thorough=True)
    assert set(look(nothing, BEFORE)) == {*Check} - {Check.DISK}
    assert (box.board(), box.slots(), box.base(), box.cables()) == ("", None, 0, ())
    (tmp_path / "os-release").write_text('NAME=Vigie\nVERSION_ID=2026.12.1\nVARIANT_ID="cm4"\n')
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nMemAvailable:  524288 kB\n")
    (tmp_path / "run" / "heartbeat.json").write_text('{"at": 1, "base": 5, "attached": true}')
    (tmp_path / "run" / "link" / "link-status.json").write_text('{"code": "connected"}')
    for port, received, sent in (("eth0", 10, 20), ("eth1", 30, 40)):
        (tmp_path / "net" / "br0" / "brif" / port).mkdir(parents=True)
        (tmp_path / "net" / "br0" / "brif" / port / "state").write_text("3\n")
        statistics = tmp_path / "net" / port / "statistics"
        statistics.mkdir(parents=True)
        (tmp_path / "net" / port / "carrier").write_text("1\n")
        (statistics / "rx_packets").write_text(f"{received}\n")
        (statistics / "tx_packets").write_text(f"{sent}\n")
    assert (box.running(), box.board(), box.frames(), box.cables()) == (NEW, "cm4", 40, PORTS)
    box.seen(thorough=True)
    (tmp_path / "net" / "eth0" / "statistics" / "rx_packets").write_text("1010\n")
    seen = box.seen(thorough=True)
    assert (seen.ways, seen.forwarding, seen.memory, seen.linked) == (
        (Ports(1000, 0), Ports(0, 0)),
        PORTS,
        1 << 29,
        True,
    )
    assert Check.FORWARD in look(seen, BEFORE)
    assert box.seen(thorough=False).ways == ()


def test_a_trial_that_is_over_is_none(tmp_path: Path) -> None:
    box = machine(tmp_path)
    on = Said("B", "A", "B", Outcome.ON_TRIAL)
    assert box.outcome(on) is Outcome.ON_TRIAL
    assert box.outcome(replace(on, committed="B", trial=None)) is Outcome.NONE
    assert box.outcome(None) is Outcome.NONE
    box.restart("trial")
    assert (tmp_path / "run" / "update" / "restart" / "trial").exists()


def test_the_version_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "version"
    assert software.version(path) == software.__version__
    path.write_text("2026.12.1\n")
    assert software.version(path) == "2026.12.1"
    path.write_text("no version at all\n")
    assert software.version(path) == software.__version__


def test_requests_at_the_socket(tmp_path: Path) -> None:
    from vigie.update.firmware.process import Service, ask

    asked: list[float] = []

    class Turns:
        def start(self) -> None:
            pass

        def turn(self) -> None:
            pass

        def postpone(self, seconds: float) -> bool:
            asked.append(seconds)
            return seconds < 10_000

    service = Service(tmp_path, lambda: Said("A", "A"))
    thread = threading.Thread(target=service.run, args=(Turns(),))
    thread.start()
    try:
        while ask(tmp_path, "postpone 3600", 5.0) is None:
            pass
        assert ask(tmp_path, "postpone 90000", 5.0) is False
        assert ask(tmp_path, "resume", 5.0) is True
        assert ask(tmp_path, "install everything", 5.0) is False
    finally:
        service.stop()
        thread.join(20)
    assert not thread.is_alive() and asked[-2:] == [90000.0, 0.0]
    assert ask(tmp_path, "resume", 0.1) is None
