"""Layers 1 to 8 of the decision, one class each, in their order; names have a file of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from tests.support import packets as p
from tests.support.policies import (
    CLASS_NEVER,
    CLASS_PORTS,
    FOREVER,
    PK_AS,
    PK_COUNTRY,
    PK_DEFAULT,
    AddressException,
    IndicatorClass,
    Resolved,
)
from tests.support.strategies import T0
from tests.support.town import HOME, TOXIC, Town
from vigie.contract.codes import Action, Direction, InboundMode, Reason, Verdict

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

PASSES = (Verdict.PASS, Reason.DEFAULT)
BOTH_FAMILIES = pytest.mark.parametrize(("pc", "remote"), [(p.PC, p.PLAIN), (p.PC6, p.PLAIN6)])


def test_plain_traffic_passes_untouched(town: Make) -> None:
    frame = p.ether(p.tcp(p.PC, p.PLAIN, 40000, 443))
    got = town().frame(0, frame)
    assert (got.decided, got.data) == (PASSES, frame)


class TestIsolation:
    @BOTH_FAMILIES
    @pytest.mark.parametrize("level", [0, 1, 2, 3])
    @pytest.mark.parametrize("rank", [0, 1, 2, 3, 9])
    def test_rank_decides(self, town: Make, pc: str, remote: str, level: int, rank: int) -> None:
        highest = {0: 99, 1: 99, 2: 9, 3: 2}[level]
        kept = highest == 99 or 0 < rank <= highest
        prefix = f"{remote}/{128 if p.is6(remote) else 32}"
        t = town(
            isolation_level=level,
            isolation_until=T0 + 100,
            classes={**HOME.classes, 4: IndicatorClass(rank=rank)},
            base={**HOME.base, prefix: 4},
        )
        got = t.sends(p.tcp(pc, remote, 40000, 443))
        assert got.decided == (PASSES if kept else (Verdict.REFUSE, Reason.ISOLATION))

    @pytest.mark.parametrize("proto", [6, 17])
    def test_services_are_kept_by_port(self, town: Make, proto: int) -> None:
        t = town(isolation_level=3, isolation_until=T0 + 100, essential_ports={(proto, 5060): 2})
        make = p.tcp if proto == 6 else p.udp
        other = p.udp if proto == 6 else p.tcp
        assert t.sends(make(p.PC, p.PLAIN, 40000, 5060)).decided == PASSES
        assert t.sends(other(p.PC, p.PLAIN, 40000, 5060)).reason == Reason.ISOLATION
        assert t.sends(make(p.PC, p.PLAIN, 5060, 40000)).reason == Reason.ISOLATION

    def test_service_of_an_inbound_flow_is_the_devices_port(self, town: Make) -> None:
        t = town(
            isolation_level=2, isolation_until=T0 + 100, essential_ports={(6, 5060): 1},
            inbound_allow={(p.PC_MAC, 6, 5060): FOREVER, (p.PC_MAC, 6, 22): FOREVER},
        )  # fmt: skip
        assert t.receives(p.tcp(p.PLAIN, p.PC, 999, 5060)).reason == Reason.INBOUND_ALLOWED
        assert t.receives(p.tcp(p.PLAIN, p.PC, 5060, 22)).reason == Reason.ISOLATION

    def test_kept_devices_and_addresses_just_resolved(self, town: Make) -> None:
        t = town(isolation_level=2, isolation_until=T0 + 100, device_class={p.CAMERA_MAC: (8, 3)})
        assert t.sends(p.udp(p.CAMERA, p.PLAIN, 1, 2), smac=p.CAMERA_MAC).decided == PASSES
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).reason == Reason.ISOLATION
        t.change(learn=True, resolved={p.PLAIN: Resolved(T0 + 50, never=False, rank=2)})
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).decided == PASSES

    def test_neighbours_are_not_isolated(self, town: Make) -> None:
        t = town(isolation_level=3, isolation_until=T0 + 100)
        assert t.sends(p.tcp(p.PC, p.NEIGHBOUR, 40000, 631)).decided == (Verdict.PASS, Reason.LOCAL)

    def test_cuts_flows_at_once_and_ends_by_itself(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        t.change(isolation_level=3, isolation_until=T0 + 100)
        assert t.receives(p.udp(p.PLAIN, p.PC, 2, 1)).decided == (Verdict.REFUSE, Reason.ISOLATION)
        t.wait(110)
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).decided == PASSES

    def test_comes_before_everything_else(self, town: Make) -> None:
        t = town(isolation_level=3, isolation_until=T0 + 100, quarantine={p.PC_MAC: FOREVER})
        assert t.sends(p.udp(p.PC, p.RESOLVER, 1, 2)).reason == Reason.ISOLATION
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).reason == Reason.ISOLATION


class TestQuarantine:
    def test_cuts_one_device_from_everything(self, town: Make) -> None:
        t = town(quarantine={p.CAMERA_MAC: FOREVER})
        for packet in (
            p.tcp(p.CAMERA, p.PLAIN, 1, 2),
            p.udp(p.CAMERA, p.NEIGHBOUR, 1, 2),
            p.udp(p.CAMERA, p.RESOLVER, 1, 53, p.dns_query("good.example")),
            p.tcp(p.CAMERA6, p.PLAIN6, 1, 2),
        ):
            got = t.sends(packet, smac=p.CAMERA_MAC)
            assert got.decided == (Verdict.REFUSE, Reason.QUARANTINE)
        assert t.receives(p.udp(p.NEIGHBOUR, p.CAMERA, 1, 2), smac=p.NEIGHBOUR_MAC, dmac=p.CAMERA_MAC).reason == (
            Reason.QUARANTINE
        )
        assert t.sends(p.tcp(p.PC, p.PLAIN, 1, 2)).decided == PASSES

    def test_dhcp_goes_on(self, town: Make) -> None:
        t = town(quarantine={p.PC_MAC: FOREVER})
        assert t.sends(p.udp(p.PC, p.GATEWAY, 68, 67)).reason == Reason.LOCAL
        assert t.sends(p.udp(p.PC6, p.GATEWAY6, 546, 547)).reason == Reason.LOCAL
        assert t.sends(p.tcp(p.PC, p.GATEWAY, 68, 67)).reason == Reason.QUARANTINE
        assert t.sends(p.udp(p.PC, p.GATEWAY, 68, 547)).reason == Reason.QUARANTINE
        assert t.sends(p.udp(p.PC, p.PLAIN, 68, 67)).reason == Reason.QUARANTINE, "no server off-link is one's own"

    def test_ends(self, town: Make) -> None:
        t = town(quarantine={p.PC_MAC: T0 + 100})
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).reason == Reason.QUARANTINE
        t.wait(110)
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).decided == PASSES


class TestExceptions:
    @pytest.mark.parametrize(("pc", "toxic", "prefix"), [
        (p.PC, p.TOXIC, "198.51.100.0/24"), (p.PC6, p.TOXIC6, "2001:db8:bad::/48"),
    ])  # fmt: skip
    @pytest.mark.parametrize("device", [None, p.PC_MAC])
    def test_spares(self, town: Make, pc: str, toxic: str, prefix: str, device: str | None) -> None:
        t = town(exceptions={(device, prefix): AddressException(Action.ALLOW)})
        assert t.sends(p.tcp(pc, toxic, 1, 2)).decided == (Verdict.PASS, Reason.EXCEPTION)
        got = t.sends(p.tcp(pc, toxic, 1, 2), smac=p.CAMERA_MAC)
        assert got.reason == (Reason.TOXIC_ADDRESS if device else Reason.EXCEPTION)

    def test_device_before_any_and_longest_first(self, town: Make) -> None:
        t = town(
            exceptions={
                (None, "203.0.113.7/32"): AddressException(Action.ALLOW),
                (p.PC_MAC, "203.0.113.0/24"): AddressException(Action.BLOCK),
                (p.PC_MAC, "203.0.113.64/26"): AddressException(Action.OBSERVE),
            }
        )
        assert t.sends(p.udp(p.PC, "203.0.113.7", 1, 2)).decided == (Verdict.REFUSE, Reason.EXCEPTION_BLOCK)
        assert t.sends(p.udp(p.PC, "203.0.113.65", 1, 2)).decided == (Verdict.OBSERVE, Reason.EXCEPTION)
        got = t.sends(p.udp(p.CAMERA, "203.0.113.7", 1, 2), smac=p.CAMERA_MAC)
        assert got.decided == (Verdict.PASS, Reason.EXCEPTION)

    def test_protocol_and_service_port_must_agree(self, town: Make) -> None:
        t = town(exceptions={(None, "198.51.100.0/24"): AddressException(Action.ALLOW, port=443, proto=6)})
        assert t.sends(p.tcp(p.PC, p.TOXIC, 1, 443)).reason == Reason.EXCEPTION
        assert t.sends(p.tcp(p.PC, p.TOXIC, 443, 1)).reason == Reason.TOXIC_ADDRESS
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 443)).reason == Reason.TOXIC_ADDRESS
        assert t.sends(p.echo(p.PC, p.TOXIC)).reason == Reason.TOXIC_ADDRESS

    def test_a_device_rule_that_does_not_fit_leaves_the_general_one(self, town: Make) -> None:
        t = town(
            exceptions={
                (p.PC_MAC, "203.0.113.7/32"): AddressException(Action.ALLOW, port=443),
                (None, "203.0.113.0/24"): AddressException(Action.BLOCK),
            }
        )
        assert t.sends(p.tcp(p.PC, p.PLAIN, 1, 443)).decided == (Verdict.PASS, Reason.EXCEPTION)
        assert t.sends(p.tcp(p.PC, p.PLAIN, 1, 80)).reason == Reason.EXCEPTION_BLOCK

    def test_expires_for_known_flows_too(self, town: Make) -> None:
        t = town(exceptions={(None, "198.51.100.0/24"): AddressException(Action.ALLOW, until=T0 + 100)})
        for _ in range(3):
            assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).reason == Reason.EXCEPTION
        t.wait(110)
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)

    def test_spares_names_too(self, town: Make) -> None:
        t = town(exceptions={(None, "203.0.113.7/32"): AddressException(Action.ALLOW)})
        query = p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example"))
        assert t.sends(query).decided == (Verdict.PASS, Reason.EXCEPTION)

    def test_publishes_no_device(self, town: Make) -> None:
        t = town(exceptions={(None, "203.0.113.7/32"): AddressException(Action.ALLOW)})
        assert t.receives(p.tcp(p.PLAIN, p.PC, 1, 22)).decided == (Verdict.REFUSE, Reason.INBOUND)


class TestNeverBlock:
    @pytest.mark.parametrize(("pc", "remote"), [(p.PC, p.RESOLVER), (p.PC6, p.RESOLVER6)])
    def test_spares_from_later_layers(self, town: Make, pc: str, remote: str) -> None:
        t = town(
            dynamic={(None, remote): FOREVER},
            device_class={p.PC_MAC: (2, 0)},
            class_policy={(2, PK_DEFAULT, 0): Action.BLOCK},
        )
        assert t.sends(p.tcp(pc, remote, 1, 443)).decided == (Verdict.PASS, Reason.NEVER_BLOCK)
        assert t.sends(p.tcp(pc, p.PLAIN6 if p.is6(pc) else p.PLAIN, 1, 443)).reason == Reason.DEVICE_CLASS

    def test_names_are_still_judged(self, town: Make) -> None:
        query = p.udp(p.PC, p.RESOLVER, 40000, 53, p.dns_query("evil.example"))
        assert town().sends(query).decided == (Verdict.NXDOMAIN, Reason.TOXIC_DNS)

    def test_address_just_resolved(self, town: Make) -> None:
        t = town(learn=True, resolved={p.TOXIC: Resolved(T0 + 100, never=True)})
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).decided == (Verdict.PASS, Reason.NEVER_BLOCK)
        t.wait(110)
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).reason == Reason.TOXIC_ADDRESS


def listed(direction: Direction, action: Action, flags: int = 0) -> dict[str, object]:
    """HOME with one class for the toxic prefixes."""
    return {"classes": {TOXIC: IndicatorClass(flags, direction, action)}, "names": {}, "base": {
        "198.51.100.0/24": TOXIC, "2001:db8:bad::/48": TOXIC,
    }}  # fmt: skip


class TestToxicAddress:
    @pytest.mark.parametrize(("pc", "toxic"), [(p.PC, p.TOXIC), (p.PC6, p.TOXIC6)])
    @pytest.mark.parametrize("direction", list(Direction))
    def test_direction_follows_the_opener(self, town: Make, pc: str, toxic: str, direction: Direction) -> None:
        fields = listed(direction, Action.BLOCK) | {"inbound_mode": InboundMode.OFF}
        got = town(**fields).sends(p.tcp(pc, toxic, 1, 443))
        assert got.decided == (PASSES if direction == Direction.IN else (Verdict.REFUSE, Reason.TOXIC_ADDRESS))
        got = town(**fields).receives(p.tcp(toxic, pc, 1, 443))
        expected = (Verdict.PASS, Reason.LEARNING)
        assert got.decided == (expected if direction == Direction.OUT else (Verdict.DROP, Reason.TOXIC_ADDRESS))
        got = town(**fields).sends(p.tcp(pc, toxic, 1, 443, "A"))  # what leaves counts as opened here
        assert got.decided == (PASSES if direction == Direction.IN else (Verdict.REFUSE, Reason.TOXIC_ADDRESS))
        got = town(**fields).receives(p.tcp(toxic, pc, 443, 1, "A"))
        assert got.decided == ((Verdict.REFUSE, Reason.TOXIC_ADDRESS) if direction == Direction.BOTH else PASSES)

    def test_edges_of_a_prefix(self, town: Make) -> None:
        t = town()
        for address, toxic in (
            ("198.51.99.255", False), ("198.51.100.0", True), ("198.51.100.255", True), ("198.51.101.0", False),
        ):  # fmt: skip
            got = t.sends(p.udp(p.PC, address, 1, 2))
            assert (got.reason == Reason.TOXIC_ADDRESS) == toxic, address
        for address, toxic in (
            ("2001:db8:bac:ffff:ffff:ffff:ffff:ffff", False), ("2001:db8:bad::", True),
            ("2001:db8:bad:ffff:ffff:ffff:ffff:ffff", True), ("2001:db8:bae::", False),
        ):  # fmt: skip
            got = t.sends(p.udp(p.PC6, address, 1, 2))
            assert (got.reason == Reason.TOXIC_ADDRESS) == toxic, address

    def test_observed_addresses_pass_and_are_told(self, town: Make) -> None:
        assert town().sends(p.udp(p.PC, "198.18.0.1", 1, 2)).decided == (Verdict.OBSERVE, Reason.TOXIC_ADDRESS)

    @pytest.mark.parametrize(("pc", "toxic"), [(p.PC, p.TOXIC), (p.PC6, p.TOXIC6)])
    def test_port_scope(self, town: Make, pc: str, toxic: str) -> None:
        t = town(**listed(Direction.BOTH, Action.BLOCK, CLASS_PORTS), base_ports=frozenset({(toxic, 8080)}))
        assert t.sends(p.tcp(pc, toxic, 1, 8080)).reason == Reason.TOXIC_ADDRESS
        assert t.sends(p.udp(pc, toxic, 1, 8080)).reason == Reason.TOXIC_ADDRESS
        assert t.sends(p.tcp(pc, toxic, 8080, 443)).decided == PASSES
        assert t.sends(p.echo(pc, toxic)).decided == PASSES
        neighbour = "2001:db8:bad::67" if p.is6(pc) else "198.51.100.67"
        assert t.sends(p.tcp(pc, neighbour, 1, 8080)).decided == PASSES

    def test_both_ends_are_looked_up_before_roles(self, town: Make) -> None:
        t = town(wan_port=-1)
        for port in (0, 1):
            for packet in (p.udp(p.PC, p.TOXIC, 1, 2), p.udp(p.TOXIC, p.PC, 1, 2)):
                got = t.frame(port, p.ether(packet))
                assert got.decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)

    def test_no_direction_before_roles(self, town: Make) -> None:
        t = town(wan_port=-1, **listed(Direction.OUT, Action.BLOCK))
        assert t.sends(p.tcp(p.PC, p.TOXIC, 1, 2)).decided == PASSES

    def test_protected_source_before_roles(self, town: Make) -> None:
        fields = {"classes": {TOXIC: IndicatorClass(CLASS_NEVER, action=Action.BLOCK)}, "names": {}, "base": {
            "9.9.9.9/32": TOXIC,
        }}  # fmt: skip
        assert town(wan_port=-1, **fields).frame(1, p.ether(p.udp(p.RESOLVER, p.PC, 53, 1))).verdict == Verdict.PASS


class TestDeviceClass:
    POLICY: ClassVar[dict[str, object]] = {
        "device_class": {p.CAMERA_MAC: (2, 0)},
        "geo": {"203.0.113.0/24": (64500, "US"), "192.0.2.0/24": (64501, "FR"), "2001:db8:900d::/48": (64500, "FR")},
    }

    @pytest.mark.parametrize(
        ("rules", "us", "fr", "nowhere"),
        [
            ({(2, PK_DEFAULT, 0): 1}, 1, 1, 1),
            ({(2, PK_DEFAULT, 0): 1, (2, PK_COUNTRY, "FR"): 3}, 1, 3, 1),
            ({(2, PK_DEFAULT, 0): 1, (2, PK_AS, 64500): 3, (2, PK_COUNTRY, "US"): 1}, 3, 1, 1),
            ({(2, PK_COUNTRY, "US"): 2}, 2, 0, 0),
            ({(1, PK_DEFAULT, 0): 1}, 0, 0, 0),
        ],
    )
    def test_as_then_country_then_default(
        self, town: Make, rules: dict[object, int], us: int, fr: int, nowhere: int
    ) -> None:
        t = town(**self.POLICY, class_policy=rules)
        wanted = {
            0: PASSES,
            1: (Verdict.REFUSE, Reason.DEVICE_CLASS),
            2: (Verdict.OBSERVE, Reason.DEVICE_CLASS),
            3: PASSES,
        }
        for address, action in ((p.PLAIN, us), ("192.0.2.7", fr), ("100.64.1.1", nowhere)):
            got = t.sends(p.udp(p.CAMERA, address, 1, 2), smac=p.CAMERA_MAC)
            assert got.decided == wanted[action], address
            assert t.sends(p.udp(p.PC, address, 1, 3)).decided == PASSES

    def test_ipv6(self, town: Make) -> None:
        t = town(**self.POLICY, class_policy={(2, PK_COUNTRY, "FR"): 3, (2, PK_DEFAULT, 0): 1})
        assert t.sends(p.udp(p.CAMERA6, p.PLAIN6, 1, 2), smac=p.CAMERA_MAC).decided == PASSES
        assert t.sends(p.udp(p.CAMERA6, "2001:db8:5::1", 1, 2), smac=p.CAMERA_MAC).reason == Reason.DEVICE_CLASS


class TestDynamic:
    @BOTH_FAMILIES
    @pytest.mark.parametrize("device", [None, p.PC_MAC])
    def test_blocks_until_it_expires(self, town: Make, pc: str, remote: str, device: str | None) -> None:
        t = town(dynamic={(device, remote): T0 + 100})
        assert t.sends(p.udp(pc, remote, 1, 2)).decided == (Verdict.REFUSE, Reason.DYNAMIC)
        got = t.sends(p.udp(pc, remote, 1, 2), smac=p.CAMERA_MAC)
        assert got.decided == (PASSES if device else (Verdict.REFUSE, Reason.DYNAMIC))
        t.wait(110)
        assert t.sends(p.udp(pc, remote, 1, 2)).decided == PASSES

    def test_first_observation_is_told(self, town: Make) -> None:
        t = town(device_class={p.PC_MAC: (2, 0)}, class_policy={(2, PK_DEFAULT, 0): Action.OBSERVE})
        assert t.sends(p.udp(p.PC, "198.18.0.1", 1, 2)).decided == (Verdict.OBSERVE, Reason.TOXIC_ADDRESS)
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).decided == (Verdict.OBSERVE, Reason.DEVICE_CLASS)


@pytest.mark.parametrize("wan", [0, 1])
def test_cables_either_way_round(town: Make, wan: int) -> None:
    t = town(wan_port=wan)
    assert t.sends(p.tcp(p.PC, p.TOXIC, 1, 2)).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
    assert t.receives(p.tcp(p.PLAIN, p.PC, 1, 2)).decided == (Verdict.REFUSE, Reason.INBOUND)
    t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
    assert t.receives(p.udp(p.PLAIN, p.PC, 2, 1)).decided == PASSES
