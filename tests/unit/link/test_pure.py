"""Back-off, ports, packets, the state message, memory of commands."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.downward import Command, Desired
from vigie.contract.errors import MessageError
from vigie.contract.firmware import FirmwareOrder, FirmwareState, Phase, Version
from vigie.contract.limits import COMMANDS_PER_HOUR, DAY_S, OrderRefused
from vigie.contract.words import Code, DesiredStatus, FilterHealth, Inbound
from vigie.host.boxconfig import Paths
from vigie.link import report, steering
from vigie.link.backoff import Backoff, Ports
from vigie.link.codes import LinkCode, sentence
from vigie.link.errors import PacketError
from vigie.link.filterclient import refusal
from vigie.link.orders import REMEMBERED_MAX, Memory
from vigie.link.packets import PACKET_MAX, PacketMeter
from vigie.link.report import Machine
from vigie.link.store import Store
from vigie.update.firmware.store import Store as FirmwareStore

BOX = "vg-" + "a" * 16


def test_backoff_grows_to_its_ceiling() -> None:
    backoff = Backoff(1.0, 900.0)
    ceilings = []
    for _ in range(14):
        backoff = backoff.failed()
        ceilings.append(backoff.ceiling_s())
    assert ceilings == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0, 900.0, 900.0, 900.0]
    assert Backoff(1.0, 900.0, 10**6).ceiling_s() == 900.0


def test_full_jitter_spreads_evenly() -> None:
    """A thousand boxes after a night without a broker: no tenth of the quarter of an hour gets twice its share."""
    draw = random.Random(1).uniform
    waits = [Backoff(1.0, 900.0, 20).wait_s(draw) for _ in range(1000)]
    tenths = [sum(90 * i <= w < 90 * (i + 1) for w in waits) for i in range(10)]
    assert min(tenths) > 60, tenths
    assert max(tenths) < 140, tenths


def test_a_good_session_counts_from_one() -> None:
    assert Backoff(1.0, 900.0, 9).failed(lived_s=31.0).failures == 1
    assert Backoff(1.0, 900.0, 9).failed(lived_s=2.0).failures == 10


def test_ports() -> None:
    ports = Ports((8883, 443))
    assert ports.order(0.0) == (8883, 443)
    ports = ports.worked(443, 10.0)
    assert ports.order(20.0) == (443, 8883)
    assert ports.worked(443, 50.0) is ports, "the day counts from the first time"
    assert ports.order(10.0 + 86_400.0) == (8883, 443)
    assert Ports((8883, 443), good=1883, since=0.0).order(1.0) == (8883, 443)


# ---- packets ---------------------------------------------------------------------------------------------------


def packet(body: bytes, kind: int = 0x30) -> bytes:
    length, out = len(body), bytearray([kind])
    while True:
        out.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes(out) + body


@given(st.lists(st.binary(max_size=400), max_size=6), st.lists(st.integers(1, 50), max_size=200))
def test_meter_follows_any_cutting(bodies: list[bytes], cuts: list[int]) -> None:
    data, meter = b"".join(packet(b) for b in bodies), PacketMeter(400)
    for cut in cuts:
        meter.feed(data[:cut])
        data = data[cut:]
    meter.feed(data)


@given(st.integers(PACKET_MAX + 1, 2**28 - 1), st.lists(st.integers(1, 3), max_size=8))
def test_meter_stops_at_the_header(length: int, cuts: list[int]) -> None:
    """Before a single byte of the body."""
    header = packet(b"x" * 3) + bytes([0x30]) + _varint(length)
    meter = PacketMeter()
    with pytest.raises(PacketError, match="announced"):
        for cut in cuts:
            meter.feed(header[:cut])
            header = header[cut:]
        meter.feed(header)


@pytest.mark.parametrize("first", [0x34, 0x35, 0x3C, 0x36])
def test_meter_refuses_what_the_library_would_keep(first: int) -> None:
    """A message of QoS 2 waits in the library for its release: 65,535 of them may."""
    with pytest.raises(PacketError, match="QoS 2"):
        PacketMeter().feed(packet(b"x") + bytes([first]))
    PacketMeter().feed(bytes([0x62, 2, 0, 1]) + bytes([0x32, 1, 0]) + bytes([0x3B, 1, 0]))


def test_meter_refuses_endless_lengths() -> None:
    with pytest.raises(PacketError, match="4 bytes"):
        PacketMeter().feed(b"\x30\x80\x80\x80\x80\x01")


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


# ---- state -----------------------------------------------------------------------------------------------------

MACHINE = Machine(60, 1000, 500, 0.123)
STATUS = {
    "base": {"version": 7, "entries": 1000}, "candidate": 8, "isolation": {"level": 2}, "quarantine": [{}],
    "rules": [{}, {}], "inbound": {"mode": 2}, "problems": [], "ports": [{"role": "lan"}, {"role": "wan"}],
    "outbox": {"lost": 3},
}  # fmt: skip


def test_state() -> None:
    shown = {"version": 4, "status": "partial"}
    state = report.state(2, "0.1.0", STATUS, shown, Code.OLDER, MACHINE)
    assert (state.session, state.isolation, state.quarantined, state.exceptions) == (2, 2, 1, 2)
    assert (state.candidate, state.inbound, state.filter, state.losses) == (8, Inbound.REFUSE, FilterHealth.OK, 3)
    assert state.base is not None
    assert (state.base.version, state.base.entries) == (7, 1000)
    assert (state.desired.version, state.desired.status) == (4, DesiredStatus.PARTIAL)
    assert state.desired.refused is Code.OLDER
    assert state.roles_known


def test_state_without_a_filter() -> None:
    state = report.state(1, "0.1.0", None, None, None, MACHINE)
    assert (state.filter, state.base, state.desired.status) == (FilterHealth.DOWN, None, DesiredStatus.NONE)


NAMES = [*STATUS, "version", "level"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=8,
)


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(list(STATUS)), JUNK), st.dictionaries(st.sampled_from(["version", "status"]), JUNK)
)
def test_state_from_anything(status: dict[str, object], shown: dict[str, object]) -> None:
    """A filter of another version never stops the link."""
    report.state(1, "0.1.0", status, shown, None, MACHINE)


def test_degraded() -> None:
    assert report.state(1, "0", STATUS | {"problems": ["x"]}, {}, None, MACHINE).filter is FilterHealth.DEGRADED


def test_worth_telling_at_once() -> None:
    one = report.state(1, "0", STATUS, {}, None, MACHINE)
    assert report.key(one) == report.key(report.state(1, "0", STATUS, {}, None, Machine(99, 1, 1, 9.0)))
    assert report.key(one) != report.key(report.state(1, "0", STATUS | {"isolation": {"level": 0}}, {}, None, MACHINE))


def test_a_new_phase_of_the_firmware_is_told_at_once() -> None:
    soak, good = (FirmwareState(Version(2026, 12, 1), 3, phase) for phase in (Phase.SOAK, Phase.GOOD))
    one, two = (report.state(1, "0", STATUS, {}, None, MACHINE, phase) for phase in (soak, good))
    assert report.key(one) != report.key(two) and one.fields()["firmware"]["phase"] == "soak"
    assert "firmware" not in report.state(1, "0", STATUS, {}, None, MACHINE).fields()


def test_settings_hold_the_order_of_firmware(tmp_path: Path) -> None:
    paths = Paths(state=tmp_path)
    desired = Desired("vg-" + "a" * 16, 4, 1, 2, firmware=FirmwareOrder(Version(2026, 12, 1), 3))
    Store(paths).save_settings(desired)
    kept = json.loads((paths.link / "settings.json").read_bytes())
    assert kept["firmware"] == {"version": "2026.12.1", "order": 3}
    assert FirmwareStore(paths).ordered() == (desired.firmware, ())
    Store(paths).save_settings(replace(desired, firmware=None))
    assert FirmwareStore(paths).ordered() == (None, ())


def test_details_keep_places_and_codes_only() -> None:
    parts = [
        {"what": "exceptions[3]", "code": "never-block"}, {"what": "www.mairie.example", "code": "x"},
        {"what": "isolation", "code": "isolation-budget"}, "nonsense", {},
    ]  # fmt: skip
    assert steering.details(parts) == ("exceptions[3]:never-block", "isolation:isolation-budget")
    assert steering.details(None) == ()


def test_words_of_the_filter() -> None:
    assert refusal("[older] version 3 is in force", 3).code is Code.OLDER
    assert refusal("[made-up] x", 3).code is Code.FILTER_REFUSED
    assert refusal("no code", 3).version == 3


def test_every_code_has_a_sentence() -> None:
    assert len({sentence(code) for code in LinkCode}) == len(LinkCode)


# ---- commands --------------------------------------------------------------------------------------------------


def command(number: int, expires: int) -> Command:
    return Command(BOX, f"{number:032x}", expires - 60, expires, "self-test")


def test_memory_forgets_ids_and_keeps_the_floor() -> None:
    """An id may be forgotten a day after its expiry; the command stays done all the same."""
    now = 1_800_000_000
    first = command(1, now + 60)
    memory = Memory().remember(first, now)
    later = now + 60 + DAY_S + 1
    memory = memory.remember(command(2, later + 60), later)
    assert first.id not in memory.done
    assert memory.floor == first.expires
    with pytest.raises(OrderRefused, match="replayed"):
        memory.check(first, now)  # a clock that was set back


def test_memory_limits_the_rate() -> None:
    memory, now = Memory(), 1_800_000_000
    for i in range(COMMANDS_PER_HOUR):
        memory.check(command(i, now + 60), now)
        memory = memory.remember(command(i, now + 60), now)
    with pytest.raises(OrderRefused, match="rate-limited"):
        memory.check(command(99, now + 60), now)
    memory.check(command(99, now + 7200), now + 3600)


def test_memory_is_bounded() -> None:
    now = 1_800_000_000
    memory = Memory({f"{i:032x}": now + 60 for i in range(REMEMBERED_MAX)})
    with pytest.raises(OrderRefused, match="rate-limited"):
        memory.check(command(10**6, now + 60), now)


def test_memory_file() -> None:
    memory = Memory({"0" * 32: 5}, 3, (1, 2))
    assert Memory.from_dict(memory.to_dict()) == memory
    for bad in ({}, {"done": {"x": 1}, "floor": 0, "times": []}, {"done": {}, "floor": -1, "times": []}):
        with pytest.raises(MessageError):
            Memory.from_dict(bad)
