"""Settings are checked, written in place, and begin a new epoch when they decide something."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from vigie.contract.codes import EventKind, InboundMode
from vigie.errors import LayoutError, UsageError
from vigie.filter import abi
from vigie.filter.control import Control


class MemoryMap:
    """Stands for the control map: an array of one value in plain memory."""

    value_size = abi.CONTROL.itemsize

    def __init__(self) -> None:
        self.memory = bytearray(self.value_size)

    def mmap(self) -> memoryview:
        return memoryview(self.memory)


@pytest.fixture
def memory() -> MemoryMap:
    return MemoryMap()


@pytest.fixture
def control(memory: MemoryMap) -> Control:
    return Control(memory)  # type: ignore[arg-type]


def epoch(control: Control) -> int:
    return abi.gen_parts(control.gen)[0]


def test_fresh_record_gets_defaults_once(control: Control, memory: MemoryMap) -> None:
    assert int(control.record["layout"]) == abi.LAYOUT_VERSION
    assert int(control.record["wan_port"]) == -1
    seed = int(control.record["flow_seed"])
    assert seed
    control.set_wan_port(1)
    again = Control(memory)  # type: ignore[arg-type]
    assert (int(again.record["flow_seed"]), int(again.record["wan_port"])) == (seed, 1)


def test_another_layout_is_refused(memory: MemoryMap) -> None:
    np.frombuffer(memory.memory, dtype=abi.CONTROL)[0]["layout"] = 99
    with pytest.raises(LayoutError, match="layout 99"):
        Control(memory)  # type: ignore[arg-type]


def test_only_changes_begin_an_epoch(control: Control) -> None:
    before = epoch(control)
    control.set_inbound_mode(InboundMode.REFUSE)
    assert epoch(control) == before + 1
    control.set_inbound_mode(InboundMode.REFUSE)
    control.set_probe_nonce(7)
    assert epoch(control) == before + 1


def test_batch_is_one_epoch_even_when_it_fails(control: Control) -> None:
    before = epoch(control)
    with control.batch():
        control.set_wan_port(0)
        with control.batch():
            control.set_inbound_mode(InboundMode.LEARN)
        assert epoch(control) == before
    assert epoch(control) == before + 1
    with pytest.raises(UsageError), control.batch():
        control.set_wan_port(1)
        control.set_wan_port(2)
    assert epoch(control) == before + 2


def test_the_epoch_keeps_the_slots(control: Control) -> None:
    control.set_gen(abi.gen_join(5, 1, 1))
    control.bump()
    assert abi.gen_parts(control.gen) == (6, 1, 1)


def test_onlink_prefixes_and_the_unused_rest(control: Control) -> None:
    control.set_onlink(["192.0.2.9/24", "2001:db8::/64", "192.0.2.0/24"])
    assert int(control.record["onlink_count"]) == 2
    first, second, unused = (control.record["onlink"][i] for i in range(3))
    assert first["net"].tobytes() == abi.address_bytes("192.0.2.0")
    assert first["mask"].tobytes() == abi.mask_bytes(120)
    assert second["mask"].tobytes() == abi.mask_bytes(64)
    # An unused entry matches no address that exists: only :: itself.
    assert (unused["net"].tobytes(), unused["mask"].tobytes()) == (bytes(16), b"\xff" * 16)
    control.set_onlink([])
    assert int(control.record["onlink_count"]) == 0
    assert control.record["onlink"][0]["mask"].tobytes() == b"\xff" * 16


def test_addresses_ports_and_gateways(control: Control) -> None:
    control.set_box_addresses(["192.0.2.2", ipaddress.ip_address("2001:db8::2")])
    control.set_box_ports([(80, 6), (443, 6)])
    control.set_gateways(["02:00:00:00:00:fe"], ["192.0.2.1"])
    control.set_box_mac("02:00:00:00:00:02")
    record = control.record
    assert [int(record[f"{n}_count"]) for n in ("box_addr", "box_port", "gateway")] == [2, 2, 1]
    assert record["box_port"]["port"].tolist()[:3] == [80, 443, 0]
    assert record["gw_mac"].tobytes() == bytes.fromhex("0200000000fe") + bytes(10)
    assert record["gateway"][0].tobytes() == abi.address_bytes("192.0.2.1")
    assert record["box_mac"].tobytes() == bytes.fromhex("020000000002") + bytes(2)


def test_lists_too_long_are_refused_and_change_nothing(control: Control) -> None:
    control.set_onlink(["192.0.2.0/24"])
    with pytest.raises(UsageError, match="9 entries"):
        control.set_onlink([f"10.{i}.0.0/16" for i in range(9)])
    assert int(control.record["onlink_count"]) == 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda c: c.set_ports([3, 3], [1500, 1500]),
        lambda c: c.set_ports([3, 4], [1500, 10]),
        lambda c: c.set_wan_port(2),
        lambda c: c.set_isolation(4),
        lambda c: c.set_loop_port(2),
        lambda c: c.set_hold(True, 301),
        lambda c: c.set_rates(-1, 0),
        lambda c: c.set_event_rates({EventKind.DNS: -1}),
        lambda c: c.set_box_ports([(0, 6)]),
        lambda c: c.set_box_ports([(80, 1)]),
        lambda c: c.set_gateways(["02:00:00:00:00:01"] * 3, []),
    ],
)
def test_impossible_values_are_refused(control: Control, bad: object) -> None:
    before = control.record.tobytes()
    with pytest.raises(UsageError):
        bad(control)  # type: ignore[operator]
    assert control.record.tobytes() == before


def test_hold_beats_before_it_begins(control: Control) -> None:
    control.set_hold(True, 250)
    assert int(control.record["heartbeat_ns"]) > 0
    assert control.features & abi.F_HOLD
    control.set_hold(False)
    assert not control.features & abi.F_HOLD


def test_ports_isolation_and_rates(control: Control) -> None:
    control.set_ports([7, 9], [1500, 9000])
    control.set_isolation(2, 500)
    control.set_event_rates({EventKind.DNS: 0, EventKind.FLOW: 9})
    control.set_loop_port(1)
    record = control.record
    assert record["ifindex"].tolist() == [7, 9] and record["mtu"].tolist() == [1500, 9000]
    assert (int(record["isolation_level"]), int(record["isolation_until"]), int(record["loop_port"])) == (2, 500, 2)
    assert record["event_rate"][int(EventKind.DNS)] == 0 and record["event_rate"][int(EventKind.FLOW)] == 9
