"""Addresses learnt from answers for never-block and essential names (F_RESOLVED)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import packets as p
from tests.support.policies import CLASS_FORCE, IndicatorClass, NameException
from tests.support.strategies import T0
from tests.support.town import HOME, NEVER, TOXIC, Town
from vigie.contract.codes import Action, Reason, Verdict
from vigie.filter import abi

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

SPARED = (Verdict.PASS, Reason.NEVER_BLOCK)
REFUSED = (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


def ask(
    t: Town, name: str, addresses: list[str], resolver: str = p.RESOLVER, *, question: bool = True, **how: Any
) -> Any:
    """A PC asks, the resolver answers; what was learnt, address -> record."""
    pc = p.PC6 if p.is6(resolver) else p.PC
    mac = p.NEIGHBOUR_MAC if resolver in (p.NEIGHBOUR, p.NEIGHBOUR6) else p.GATEWAY_MAC
    if question:
        t.sends(p.udp(pc, resolver, 40000, 53, p.dns_query(name)), dmac=mac)
    t.receives(p.udp(resolver, pc, 53, 40000, p.dns_answer(name, addresses, **how)), smac=mac)
    return learnt(t)


def learnt(t: Town) -> dict[str, Any]:
    items = t.kernel.data.maps["resolved"].items()
    return {abi.address_text(key): abi.unpack(abi.RESOLVED_VALUE, value) for key, value in items}


GATEWAYS = {"gateway": (p.GATEWAY, p.GATEWAY6)}


@pytest.mark.parametrize("resolver", [p.RESOLVER, p.RESOLVER6, p.GATEWAY, p.GATEWAY6])
def test_from_resolvers_that_can_be_trusted(town: Make, resolver: str) -> None:
    t = town(learn=True, **GATEWAYS)
    assert t.sends(p.tcp(p.PC, p.TOXIC, 1, 443)).decided == REFUSED
    found = ask(t, "www.good.example", [p.TOXIC, p.TOXIC6], resolver)
    assert set(found) == {p.TOXIC, p.TOXIC6}
    assert t.sends(p.tcp(p.PC, p.TOXIC, 2, 443)).decided == SPARED
    assert t.sends(p.tcp(p.PC6, p.TOXIC6, 2, 443)).decided == SPARED
    assert t.sends(p.tcp(p.PC, "198.51.100.67", 2, 443)).decided == REFUSED


def test_not_from_others(town: Make) -> None:
    for resolver in (p.PLAIN, p.PLAIN6, p.NEIGHBOUR, p.NEIGHBOUR6, "192.168.1.77"):
        assert not ask(town(learn=True), "www.good.example", [p.TOXIC], resolver)


def test_not_without_a_question(town: Make) -> None:
    t = town(learn=True)
    assert not ask(t, "www.good.example", [p.TOXIC], question=False)
    assert not ask(t, "www.good.example", [p.TOXIC], p.GATEWAY, question=False)


def test_not_when_off(town: Make) -> None:
    t = town(learn=False)
    assert not ask(t, "www.good.example", [p.TOXIC])


def test_not_for_other_names(town: Make) -> None:
    for name in ("fine.example", "notgood.example", "odd.example"):
        assert not ask(town(learn=True), name, [p.TOXIC]), name
    forced = {**HOME.classes, 4: IndicatorClass(CLASS_FORCE, action=Action.OBSERVE)}
    t = town(learn=True, classes=forced, names={"good.example": NEVER, "doh.good.example": 4})
    assert not ask(t, "doh.good.example", [p.TOXIC])


def test_a_local_exception_hides_no_protection(town: Make) -> None:
    t = town(learn=True, local_names={(None, "good.example"): NameException(Action.ALLOW)})
    assert ask(t, "good.example", [p.TOXIC])[p.TOXIC]["never"]


def test_through_aliases_and_up_to_sixteen_records(town: Make) -> None:
    many = [f"198.51.100.{i}" for i in range(100, 120)]
    found = ask(town(learn=True), "good.example", many, cname="cdn.other.org")
    assert set(found) == set(many[:15]), "the alias is the first of sixteen records"


@pytest.mark.parametrize(("ttl", "kept"), [(0, 3600), (60, 3600), (5000, 5000), (86_400, 86_400), (1 << 31, 86_400)])
def test_kept_for_the_ttl_within_bounds(town: Make, ttl: int, kept: int) -> None:
    t = town(learn=True)
    found = ask(t, "good.example", [p.TOXIC], ttl=ttl)
    left = int(found[p.TOXIC]["until_s"]) - t.kernel.until(T0)
    assert kept - 1 <= left <= kept + 30
    t.wait(kept - 40)
    assert t.sends(p.udp(p.PC, p.TOXIC, 1, 443)).decided == SPARED
    t.wait(80)
    assert t.sends(p.udp(p.PC, p.TOXIC, 1, 443)).decided == REFUSED


def test_ranks_of_essential_names(town: Make) -> None:
    classes = {1: IndicatorClass(rank=5), 2: IndicatorClass(rank=2)}
    t = town(learn=True, classes=classes, base={"9.9.9.9/32": 2}, names={"mail.example": 1, "example": 2})
    found = ask(t, "mail.example", [p.PLAIN], p.GATEWAY)
    assert (int(found[p.PLAIN]["rank"]), int(found[p.PLAIN]["never"])) == (2, 0)
    t.change(isolation_level=3, isolation_until=T0 + 100, names={}, base={})
    assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).reason == Reason.ISOLATION, "a new policy starts with its own table"


def test_broken_answers_teach_nothing_wrong(town: Make) -> None:
    t = town(learn=True)
    t.sends(p.udp(p.PC, p.RESOLVER, 40000, 53, p.dns_query("good.example")))
    whole = p.dns_answer("good.example", [p.TOXIC, "198.51.100.70"])
    for size in range(len(whole)):
        t.kernel.data.maps["resolved"].clear()
        if t.model is not None:
            t.model.resolved.clear()
        padding = b"\xaa" * 20
        frame = p.ether(p.udp(p.RESOLVER, p.PC, 53, 40000, whole[:size]), smac=p.GATEWAY_MAC, dmac=p.PC_MAC)
        t.frame(1, frame + padding)
        assert set(learnt(t)) <= {p.TOXIC, "198.51.100.70"}, size
        if t.model is not None:
            assert {abi.address_text(a) for a in t.model.resolved} == set(learnt(t)), size


def test_toxic_names_are_not_learnt(town: Make) -> None:
    classes = {**HOME.classes, TOXIC: IndicatorClass(action=Action.BLOCK, rank=1)}
    assert not ask(town(learn=True, classes=classes), "evil.example", [p.TOXIC])
