"""What the department is told: how often, how much, and above all what not."""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.report.test_listed import LOOKUP
from vigie.contract.codes import Category, DeviceClass, Reason, Verdict
from vigie.contract.upward import HOUR_S, Alert, Metric
from vigie.contract.words import Rule
from vigie.filter.base.lookup import Lookup
from vigie.filter.config import JournalConfig
from vigie.filter.journal import Attempt, Journal
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.report import INCIDENT, NEW_PER_BOX, NEW_PER_DEVICE, SENSITIVE, weight
from vigie.filter.reports import Reports, received_frames
from vigie.filter.zones import Alert as ZoneAlert
from vigie.filter.zones import AlertKind

T0 = 1_800_000_000 // HOUR_S * HOUR_S + 1234.5
MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


class World:
    """Reports with everything around them made up; time moves by hand."""

    def __init__(self, folder: Path, lookup: Lookup | None = LOOKUP) -> None:
        self.mono, self.unix, self.wall, self.word = 100.0, T0, T0, "ntp"
        self.counters: dict[Reason, tuple[int, int]] = {}
        self.frames: tuple[int, int] | None = (0, 0)
        self.ordered = False
        self.journal = Journal(JournalConfig(path=folder / "journal.db"))
        self.names = Pseudonyms(folder / "pseudonyms.json", 0.0)
        self.reports = Reports(
            self.journal,
            self.names,
            lookup=lambda: lookup,
            device_class=lambda mac: DeviceClass.CAMERA if mac == MAC else DeviceClass.NONE,
            ordered=lambda _attempt: self.ordered,
            time=lambda: (self.unix, self.word),
            wall=lambda: self.wall,
            counters=lambda: self.counters,
            frames=lambda: self.frames,
        )
        self.reports.tick(self.mono)

    def see(self, name: str = "toxic.example", reason: int = Reason.TOXIC_DNS, **more: Any) -> None:
        fields: dict[str, Any] = {"verdict": int(Verdict.NXDOMAIN), "category": int(Category.PHISHING), "direction": 1}
        fields |= {"address": "192.0.2.53", "device": MAC} | more
        self.reports.attempt(Attempt(when=self.wall, destination=name, reason=reason, **fields), self.mono)

    def pass_time(self, seconds: float, step: float = 60.0) -> None:
        while seconds > 0:
            for clock in ("mono", "unix", "wall"):
                setattr(self, clock, getattr(self, clock) + min(step, seconds))
            seconds -= step
            self.reports.tick(self.mono)

    def rows(self) -> list[dict[str, Any]]:
        """What went to the outbox since the last call, as the link gets it."""
        self.reports.flush()
        assert self.journal.flush(), self.journal.health()
        found = self.journal.with_outbox(lambda outbox, db: outbox.take(db, 500))
        if found:
            boot, seq = found[-1]["boot"], found[-1]["seq"]
            self.journal.with_outbox(lambda outbox, db: outbox.received(db, boot, seq))
        return found

    def alerts(self) -> list[dict[str, Any]]:
        return [r["body"] for r in self.rows() if r["kind"] == "alert"]

    def metrics(self) -> list[dict[str, Any]]:
        return [r["body"] for r in self.rows() if r["kind"] == "metric"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.journal.close()


def test_the_first_time_goes_at_once_then_once_an_hour_with_the_count(world: World) -> None:
    world.see("jean-dupont.toxic.example")
    (first,) = world.alerts()
    assert first["indicator"] == "toxic.example" and first["count"] == 1
    assert first["device"] == world.names.name(MAC) and first["device_class"] == DeviceClass.CAMERA
    for _ in range(3000):
        world.see("jean-dupont.toxic.example")
    assert world.alerts() == []
    world.pass_time(3700)
    (second,) = world.alerts()
    assert (second["id"], second["count"]) == (first["id"], 3001)
    world.pass_time(7200)
    assert world.alerts() == []
    assert second["first"] % HOUR_S == second["last"] % HOUR_S == 0


def test_an_alert_ends_after_a_day_and_a_new_one_begins(world: World) -> None:
    ids = set()
    rows = 0
    for _ in range(3 * 24 * 2):
        world.see()
        world.pass_time(1800)
        found = world.alerts()
        rows += len(found)
        ids |= {a["id"] for a in found}
    assert len(ids) == 3 and rows <= 3 * 26


def test_one_alert_per_device_and_indicator_whatever_was_asked(world: World) -> None:
    for number in range(200):
        world.see(f"x{number}.toxic.example")
        world.see(f"x{number}.toxic.example", reason=Reason.TOXIC_SNI, device=OTHER)
    world.see("y.bad.toxic.example")
    found = world.alerts()
    assert Counter((a["indicator"], a["device"]) for a in found) == {
        ("toxic.example", world.names.name(MAC)): 1,
        ("toxic.example", world.names.name(OTHER)): 1,
        ("bad.toxic.example", world.names.name(MAC)): 1,
    }


def test_a_noisy_device_makes_few_rows(tmp_path: Path) -> None:
    """A machine that tries thousands of listed addresses: a few alerts, then one that counts."""
    world = World(tmp_path)
    addresses = [str(ipaddress.ip_address("203.0.113.0") + i) for i in range(256) if i != 8]
    for turn in range(50):
        for address in addresses:
            world.see(f"n{turn}.example", Reason.TOXIC_ADDRESS, address=address, category=turn % 8 + 1)
    found = world.alerts()
    assert len(found) <= NEW_PER_DEVICE + 2
    world.pass_time(3600 + 60)
    later = world.alerts()
    assert (
        sum(a["count"] for a in later) + sum(a["count"] for a in found if a["id"] not in {x["id"] for x in later})
        == 50 * 255
    )
    world.journal.close()


def test_many_noisy_devices_make_few_rows(world: World) -> None:
    for number in range(400):
        for category in range(1, 9):
            mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            world.see("toxic.example", device=mac, category=category)
    found = world.alerts()
    assert len(found) <= NEW_PER_BOX + 20
    assert any(a["device"] is None and a["indicator"] is None for a in found)


@pytest.mark.parametrize(
    ("reason", "direction", "category", "level"),
    [
        (Reason.TOXIC_DNS, 1, Category.C2, 3),
        (Reason.TOXIC_ADDRESS, 2, Category.SCANNER, 1),
        (Reason.INBOUND, 2, Category.NONE, 0),
        (Reason.NOT_FOR_BOX, 2, Category.NONE, 0),
        (Reason.ISOLATION, 1, Category.NONE, 1),
        (Reason.QUARANTINE, 1, Category.NONE, 1),
        (Reason.TOXIC_DNS, 1, Category.DOH, 1),
        (Reason.TOXIC_DNS, 1, Category.TEST, 1),
        (Reason.DYNAMIC, 1, Category.NONE, 2),
    ],
)
def test_noise_is_only_counted(world: World, reason: int, direction: int, category: int, level: int) -> None:
    """Isolation too: what it refuses is what people do on an ordinary day."""
    world.see(reason=reason, direction=direction, category=category)
    assert weight(Attempt(0.0, MAC, "x", reason, 1, category, direction)) == level
    assert len(world.alerts()) == (level >= 2)


def test_the_commune_s_own_blocks_are_its_own_and_ordered_ones_name_nothing(world: World) -> None:
    world.see("facebook.example", Reason.EXCEPTION_BLOCK, verdict=Verdict.REFUSE, category=0)
    assert world.alerts() == []
    world.ordered = True
    world.reports.look_again()
    world.see("jeux.example", Reason.EXCEPTION_BLOCK, verdict=Verdict.REFUSE, category=0)
    (alert,) = world.alerts()
    assert (alert["rule"], alert["indicator"], alert["severity"]) == (Rule.DEPARTMENT_BLOCK, None, 2)


@pytest.mark.parametrize("reason", [Reason.EXCEPTION, Reason.TOXIC_DNS, Reason.TOXIC_ADDRESS, Reason.TOXIC_SNI])
def test_what_was_let_through_is_never_an_alert(world: World, reason: int) -> None:
    for ordered in (False, True):
        world.ordered = ordered
        world.see("watched.example", reason, verdict=Verdict.OBSERVE, address="203.0.113.1")
    assert world.alerts() == []
    world.pass_time(3700)
    (metric, *_more) = world.metrics()
    assert metric["observed"] == {} and metric["blocked"] == {}


def test_a_candidate_base_counts_per_indicator(world: World) -> None:
    world.reports.base_changed(42, world.mono)
    assert [m["candidate"] for m in world.metrics()] == [None]
    for _ in range(5):
        world.see("x.watched.example", Reason.TOXIC_SNI, verdict=Verdict.OBSERVE, category=Category.SUSPICIOUS)
    world.see("y.watched.example", Reason.TOXIC_DNS, verdict=Verdict.OBSERVE, device=OTHER)
    world.see("?", Reason.TOXIC_ADDRESS, verdict=Verdict.OBSERVE, address="203.0.113.200")
    world.see("perso.example", Reason.EXCEPTION, verdict=Verdict.OBSERVE)
    world.see("watched.example", Reason.TOXIC_DNS, verdict=Verdict.OBSERVE, category=Category.STALKERWARE)
    world.pass_time(3700)
    told = [r["body"] for r in world.rows()]
    assert [m["observed"] for m in told if m.get("observed")] == [{"watched.example": 6, "203.0.113.128/25": 1}]
    assert {m["candidate"] for m in told} == {42} and all("device" not in m for m in told)
    world.reports.base_changed(None, world.mono)
    assert [m["candidate"] for m in world.metrics()] == [42], "the hour ends with the candidate that it was about"
    world.pass_time(3700)
    assert {m["candidate"] for m in world.metrics()} == {None}


def test_sensitive_categories_are_told_without_anything(world: World) -> None:
    for category in SENSITIVE:
        world.see("spy.toxic.example", category=category)
        world.see("spy2.toxic.example", category=category, device=OTHER)
    (alert,) = world.alerts()
    assert (alert["category"], alert["indicator"], alert["device"], alert["device_class"]) == (0, None, None, 0)
    assert not alert["incident"] and alert["first"] % HOUR_S == 0
    assert set(SENSITIVE).isdisjoint(INCIDENT)


def test_times_are_whole_hours_outside_incidents_also_in_the_frame(world: World) -> None:
    world.see(category=Category.PHISHING)
    world.see(category=Category.C2)
    rows = {r["body"]["category"]: r for r in world.rows()}
    click, machine = rows[Category.PHISHING], rows[Category.C2]
    assert click["ts"] == click["body"]["first"] == T0 // HOUR_S * HOUR_S and not click["body"]["incident"]
    assert machine["ts"] == machine["body"]["first"] == int(T0) and machine["body"]["incident"]


def test_times_are_those_of_the_trusted_clock(world: World) -> None:
    world.wall, world.word = 60.0, "signed"  # the system says 1970
    world.reports.tick(world.mono)
    world.see(category=Category.C2)
    (row,) = world.rows()
    assert (row["clock"], row["body"]["first"], row["ts"]) == ("signed", int(T0), int(T0))


def test_network_faults(world: World) -> None:
    for kind in AlertKind:
        for _ in range(3):
            world.reports.zone_alert(ZoneAlert(kind, 1, bytes.fromhex("020000000002"), "192.168.1.1"), world.mono)
    found = world.alerts()
    assert {a["rule"] for a in found} == {"loop", "gateway-on-lan", "rogue-router", "rogue-dhcp"}
    assert len(found) == 4 and all(a["incident"] for a in found)
    assert {a["device"] for a in found} == {world.names.name(OTHER)}
    world.reports.zone_alert(ZoneAlert(AlertKind.LOOP, 1), world.mono)
    assert [a["device"] for a in world.alerts()] == [None]


def test_forged_routers_with_forged_addresses_make_few_rows(world: World) -> None:
    for number in range(1000):
        mac = (0x020000000000 + number).to_bytes(6)
        world.reports.zone_alert(ZoneAlert(AlertKind.ROGUE_RA, 0, mac, "fe80::1"), world.mono)
    found = world.alerts()
    assert len(found) == NEW_PER_BOX + 1 and found[-1]["device"] is None


def test_a_metric_row_an_hour(world: World) -> None:
    world.counters = {Reason.INBOUND: (100, 1), Reason.TOXIC_DNS: (50, 1), Reason.DEFAULT: (9999, 1)}
    world.counters[Reason.EVENT_LIMITED] = (7, 0)
    world.frames = (123_456, 9_999)
    world.see(packets=4)
    world.see("w.watched.example", verdict=Verdict.OBSERVE)
    world.pass_time(3700)
    (metric,) = world.metrics()
    # Toxic reasons count what was refused (told by events), not what the kernel counted under them, observed included.
    assert metric["blocked"] == {str(int(Reason.INBOUND)): 100, str(int(Reason.TOXIC_DNS)): 4}
    assert (metric["frames"], metric["drops"], metric["hour"]) == ({"in": 123, "out": 9}, 7, int(T0) // HOUR_S)
    world.counters = {Reason.INBOUND: (130, 1)}
    world.pass_time(3600)
    assert world.metrics()[0]["blocked"] == {str(int(Reason.INBOUND)): 30}
    world.counters = {Reason.INBOUND: (5, 1)}  # another data path: counted from nothing
    world.frames = None
    world.pass_time(3600)
    (metric,) = world.metrics()
    assert metric["blocked"] == {str(int(Reason.INBOUND)): 5} and metric["frames"] == {"in": 0, "out": 0}


def test_a_clock_that_jumps_makes_no_flood_of_metrics(world: World) -> None:
    for jump in itertools.islice(itertools.cycle((1e8, -1e8)), 50):
        world.unix += jump
        world.pass_time(30, 10)
    assert len(world.metrics()) <= 3


def test_leaving_tells_what_was_counted(world: World) -> None:
    world.see()
    world.see()
    world.rows()
    world.reports.close(world.mono)
    rows = world.rows()
    assert [r["kind"] for r in rows] == ["metric", "alert"] and rows[1]["body"]["count"] == 2


def test_lost_rows_are_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.rows()
    world.journal.outbox._lost += 12
    world.pass_time(60)
    (alert,) = world.alerts()
    assert (alert["rule"], alert["count"], alert["severity"]) == ("outbox-loss", 12, 2)
    world.pass_time(60)
    assert world.alerts() == []
    world.journal.close()


def test_a_local_lift_is_told(world: World) -> None:
    world.reports.local_lift()
    (alert,) = world.alerts()
    assert (alert["rule"], alert["device"]) == ("local-lift", None)


def test_frames_received(tmp_path: Path) -> None:
    path = tmp_path / "dev"
    path.write_text("Inter-| x\n face |bytes packets\n  eth0: 5000 42 0 0\neth1:7 8 0\n bad: x y\n")
    assert [received_frames(name, path) for name in ("eth0", "eth1", "eth2", "bad")] == [42, 8, None, None]
    assert received_frames("eth0", tmp_path / "none") is None


# ---- the privacy rule ----------------------------------------------------------------------------------------------

secret = st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12).map(lambda t: f"secret{t}")
hosts = st.one_of(
    secret.map(lambda s: f"{s}.toxic.example"),
    secret.map(lambda s: f"{s}.honest.example"),
    secret.map(lambda s: f"toxic.example.{s}.fr"),
    secret.map(lambda s: f"{s}.Toxic.EXAMPLE"),
    secret.map(lambda s: f"{s}\\xff.bad.toxic.example"),
    secret,
)
unlisted4 = st.integers(1, 250).map(lambda n: f"81.2.69.{n}")
unlisted6 = st.integers(1, 2**60).map(lambda n: str(ipaddress.ip_address((0x2A01CB00 << 96) + n)))
listed_addresses = st.sampled_from(["198.51.100.7", "203.0.113.1", "203.0.113.77", "2a02::77"])
mac_texts = st.binary(min_size=6, max_size=6).filter(any).map(lambda raw: raw.hex(":"))
attempts = st.builds(
    lambda device, name, address, by_name, reason, verdict, category, direction, packets: Attempt(
        T0, device, name if by_name else address, reason, verdict, category, direction, address, 17, 53, packets
    ),
    st.one_of(mac_texts, st.just("")),
    hosts,
    st.one_of(unlisted4, unlisted6, listed_addresses),
    st.booleans(),
    st.sampled_from([int(r) for r in Reason if r.is_block or r is Reason.EXCEPTION]),
    st.sampled_from([int(v) for v in Verdict]),
    st.sampled_from([int(c) for c in Category]),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 10**9),
)
LISTED = {"toxic.example", "bad.toxic.example", "watched.example", "198.51.100.7", "2a02::/112"}


@pytest.mark.slow
@given(
    st.lists(attempts, max_size=30),
    st.lists(st.tuples(st.sampled_from(list(AlertKind)), mac_texts, unlisted4), max_size=4),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_row_holds_what_must_not_leave_the_commune(
    tmp_path_factory: pytest.TempPathFactory,
    seen: list[Attempt],
    faults: list[tuple[AlertKind, str, str]],
    candidate: bool,
    ordered: bool,
) -> None:
    """No MAC, no host name, no unlisted name or address; nothing at all about whom a sensitive category is about."""
    world = World(tmp_path_factory.mktemp("r"))
    world.ordered = ordered
    if candidate:
        world.reports.base_changed(9, world.mono)
    for a in seen:
        world.reports.attempt(a, world.mono)
    for kind, mac, address in faults:
        world.reports.zone_alert(ZoneAlert(kind, 0, bytes.fromhex(mac.replace(":", "")), address), world.mono)
    world.pass_time(3700, 600)
    world.reports.close(world.mono)
    rows = world.rows()
    said = json.dumps([r["body"] | {"id": 0, "kind": r["kind"], "ts": r["ts"]} for r in rows])
    assert "secret" not in said and "honest" not in said
    for a in seen:
        if a.device:
            assert a.device not in said and a.device.replace(":", "") not in said
    for text in ("81.2.69.", "2a01:cb00", "192.168."):
        assert text not in said
    for row in rows:
        indicators: Mapping[str, Any] = row["body"].get("observed", {})
        for one in [row["body"].get("indicator"), *indicators]:
            assert (
                one is None
                or one in LISTED
                or ipaddress.ip_network(one).subnet_of(
                    ipaddress.ip_network("203.0.113.0/24")  # type: ignore[arg-type]
                )
            )
        if row["kind"] == "alert" and not row["body"]["incident"]:
            assert row["ts"] % HOUR_S == row["body"]["first"] % HOUR_S == row["body"]["last"] % HOUR_S == 0
    sensitive = [a for a in seen if a.category in SENSITIVE and a.device]
    told = {row["body"].get("device") for row in rows} - {None}
    others = {a.device for a in seen if a.category not in SENSITIVE} | {mac for _k, mac, _a in faults}
    for a in sensitive:
        if a.device not in others:
            assert world.names.name(a.device) not in told
    world.journal.close()


def test_rows_are_the_contract_s() -> None:
    assert Alert.KIND.in_outbox and Metric.KIND.in_outbox
