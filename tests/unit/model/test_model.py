"""The model against hand-made cases: each is one sentence of docs/datapath.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import packets as p
from tests.support.model import Model, Outcome
from tests.support.policies import (
    CLASS_FORCE,
    CLASS_NEVER,
    CLASS_PORTS,
    FOREVER,
    PK_AS,
    PK_COUNTRY,
    PK_DEFAULT,
    AddressException,
    IndicatorClass,
    NameException,
    Policy,
    Resolved,
    intervals,
)
from vigie.contract.codes import Action, Direction, InboundMode, Reason, Verdict

NOW = 1_000_000
LAN, WAN = 0, 1
BLOCK = IndicatorClass(action=Action.BLOCK)
HOME = Policy(
    onlink=("192.168.1.0/24", "2001:db8:1::/64"),
    box_addr=(p.BOX, p.BOX6),
    gw_mac=(p.GATEWAY_MAC,),
    gateway=(p.GATEWAY,),
    box_ports=((6, 443),),
    classes={1: BLOCK, 2: IndicatorClass(CLASS_NEVER), 3: IndicatorClass(action=Action.OBSERVE)},
    base={"198.51.100.0/24": 1, "2001:db8:bad::/48": 1, "9.9.9.9/32": 2},
    names={"evil.example": 1, "good.example": 2, "odd.example": 3},
)


def out(packet: object, **where: str) -> bytes:
    return p.ether(packet, **({"smac": p.PC_MAC, "dmac": p.GATEWAY_MAC} | where))  # type: ignore[arg-type]


def back(packet: object, **where: str) -> bytes:
    return p.ether(packet, **({"smac": p.GATEWAY_MAC, "dmac": p.PC_MAC} | where))  # type: ignore[arg-type]


def said(model: Model, port: int, frame: bytes, now: int = NOW) -> tuple[Verdict, Reason]:
    outcome: Outcome = model.decide(port, frame, now)
    return outcome.verdict, outcome.reason


@pytest.mark.parametrize(("pc", "toxic"), [(p.PC, p.TOXIC), (p.PC6, p.TOXIC6)])
def test_toxic_address_is_refused_outward_and_dropped_inward(pc: str, toxic: str) -> None:
    model = Model(HOME)
    assert said(model, LAN, out(p.tcp(pc, toxic, 40000, 443))) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
    assert said(model, WAN, back(p.udp(toxic, pc, 443, 40000))) == (Verdict.DROP, Reason.TOXIC_ADDRESS)
    assert not model.flows


def test_outgoing_flow_is_answered_and_unsolicited_inbound_is_not() -> None:
    model = Model(HOME)
    answer = back(p.udp(p.PLAIN, p.PC, 443, 40000))
    assert said(model, WAN, answer) == (Verdict.REFUSE, Reason.INBOUND)
    assert said(model, LAN, out(p.udp(p.PC, p.PLAIN, 40000, 443))) == (Verdict.PASS, Reason.DEFAULT)
    assert said(model, WAN, answer) == (Verdict.PASS, Reason.DEFAULT)
    assert said(model, WAN, answer, NOW + 301) == (Verdict.REFUSE, Reason.INBOUND)


def test_opener_memory_outlives_the_cache() -> None:
    model = Model(HOME)
    said(model, LAN, out(p.udp(p.PC, p.PLAIN, 40000, 443)))
    model.evict()
    answer = back(p.udp(p.PLAIN, p.PC, 443, 40000))
    assert said(model, WAN, answer, NOW + 299) == (Verdict.PASS, Reason.ESTABLISHED)
    assert said(model, WAN, answer, NOW + 301) == (Verdict.REFUSE, Reason.INBOUND)


def test_new_epoch_cuts_a_flow_to_a_newly_toxic_address() -> None:
    model = Model(HOME)
    said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443)))
    later = out(p.tcp(p.PC, p.PLAIN, 40000, 443, "A"))
    assert said(model, LAN, later) == (Verdict.PASS, Reason.DEFAULT)
    model.set_policy(replace(HOME, gen=8, base={"203.0.113.0/24": 1}))
    assert said(model, LAN, later) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
    reply = back(p.tcp(p.PLAIN, p.PC, 443, 40000, "A"))
    assert said(model, WAN, reply) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


def test_expiry_of_an_exception_ends_a_cached_verdict() -> None:
    spared = {(p.PC_MAC, "198.51.100.0/24"): AddressException(Action.ALLOW, until=NOW + 100)}
    model = Model(replace(HOME, exceptions=spared))
    frame = out(p.udp(p.PC, p.TOXIC, 40000, 443))
    assert said(model, LAN, frame) == (Verdict.PASS, Reason.EXCEPTION)
    assert said(model, LAN, frame, NOW + 99) == (Verdict.PASS, Reason.EXCEPTION)
    assert said(model, LAN, frame, NOW + 100) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


def test_bare_syn_alone_is_judged_inbound() -> None:
    model = Model(HOME)
    assert said(model, WAN, back(p.tcp(p.PLAIN, p.PC, 5000, 22))) == (Verdict.REFUSE, Reason.INBOUND)
    assert said(model, WAN, back(p.tcp(p.PLAIN, p.PC, 5000, 22, "A"))) == (Verdict.PASS, Reason.DEFAULT)
    allowed = Model(replace(HOME, inbound_allow={(p.PC_MAC, 6, 22): FOREVER}))
    assert said(allowed, WAN, back(p.tcp(p.PLAIN, p.PC, 5000, 22))) == (Verdict.PASS, Reason.INBOUND_ALLOWED)
    learning = Model(replace(HOME, inbound_mode=InboundMode.LEARN))
    assert said(learning, WAN, back(p.tcp(p.PLAIN, p.PC, 5000, 22))) == (Verdict.PASS, Reason.LEARNING)


def test_icmp_error_passes_only_with_a_known_flow() -> None:
    model = Model(HOME)
    sent = p.tcp(p.PC, p.PLAIN, 40000, 443)
    error = back(p.icmp_error("203.0.113.99", p.PC, bytes(sent), "exceeded"))
    assert said(model, WAN, error) == (Verdict.DROP, Reason.INBOUND)
    said(model, LAN, out(sent))
    assert said(model, WAN, error) == (Verdict.PASS, Reason.ICMP_ERROR)
    model.evict()
    assert said(model, WAN, error) == (Verdict.PASS, Reason.ICMP_ERROR)


@pytest.mark.parametrize("dns", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("evil.example", None, Reason.TOXIC_DNS),
        ("WwW.eViL.eXaMpLe", None, Reason.TOXIC_DNS),
        ("notevil.example", Verdict.PASS, Reason.DEFAULT),
        ("www.good.example", Verdict.PASS, Reason.NEVER_BLOCK),
        ("odd.example", Verdict.OBSERVE, Reason.TOXIC_DNS),
    ],
)
def test_dns_names(dns: str, name: str, verdict: Verdict | None, reason: Reason) -> None:
    query = p.dns_query(name, edns=1232)
    if dns == "udp":
        frame = out(p.udp(p.PC, p.PLAIN, 40000, 53, query))
    else:
        frame = out(p.tcp(p.PC, p.PLAIN, 40000, 53, "PA", p.over_tcp(query)))
    blocked = Verdict.NXDOMAIN if dns == "udp" else Verdict.REFUSE
    assert said(Model(HOME), LAN, frame) == (blocked if verdict is None else verdict, reason)


def test_forced_name_holds_below_a_never_block_name() -> None:
    classes = {**HOME.classes, 4: IndicatorClass(CLASS_FORCE, action=Action.BLOCK)}
    model = Model(replace(HOME, classes=classes, names={"good.example": 2, "mask.good.example": 4}))
    frame = out(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("mask.good.example")))
    assert said(model, LAN, frame) == (Verdict.NXDOMAIN, Reason.TOXIC_DNS)


def test_name_exceptions_take_the_device_first() -> None:
    rules = {
        (None, "www.evil.example"): NameException(Action.ALLOW),
        (p.PC_MAC, "example"): NameException(Action.BLOCK),
    }
    model = Model(replace(HOME, local_names=rules))
    query = p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("www.evil.example"))
    assert said(model, LAN, out(query)) == (Verdict.NXDOMAIN, Reason.EXCEPTION_BLOCK)
    assert said(model, LAN, out(query, smac=p.CAMERA_MAC)) == (Verdict.PASS, Reason.EXCEPTION)


def test_pointer_in_a_question_gives_no_name_verdict() -> None:
    frame = out(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query(b"\x04evil\xc0\x0c")))
    outcome = Model(HOME).decide(LAN, frame, NOW)
    assert (outcome.verdict, outcome.anomaly) == (Verdict.PASS, (Reason.BAD_DNS,))


def test_server_name_of_the_first_payload_is_refused_for_good() -> None:
    model = Model(HOME)
    said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443)))
    said(model, WAN, back(p.tcp(p.PLAIN, p.PC, 443, 40000, "SA")))
    hello = out(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", p.client_hello("evil.example", before=2)))
    assert said(model, LAN, hello) == (Verdict.REFUSE, Reason.TOXIC_SNI)
    assert said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443, "A", b"x"))) == (Verdict.REFUSE, Reason.TOXIC_SNI)
    assert said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443))) == (Verdict.PASS, Reason.DEFAULT)


def test_server_name_is_read_once() -> None:
    model = Model(HOME)
    said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443)))
    said(model, LAN, out(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", b"GET / HTTP/1.0\r\n\r\n")))
    hello = out(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", p.client_hello("evil.example")))
    assert said(model, LAN, hello) == (Verdict.PASS, Reason.DEFAULT)


def test_isolation_keeps_ranked_services() -> None:
    policy = replace(
        HOME, isolation_level=3, isolation_until=NOW + 60, essential_ports={(17, 5060): 2, (17, 5061): 3}, resolved={}
    )
    for port, verdict in ((5060, Verdict.PASS), (5061, Verdict.REFUSE)):
        frame = out(p.udp(p.PC, p.PLAIN, 40000, port))
        assert Model(policy).decide(LAN, frame, NOW).verdict == verdict
    assert Model(policy).decide(LAN, out(p.udp(p.PC, p.PLAIN, 40000, 5061)), NOW + 60).verdict == Verdict.PASS


def test_quarantine_spares_dhcp_only() -> None:
    model = Model(replace(HOME, quarantine={p.PC_MAC: FOREVER}))
    assert said(model, LAN, out(p.udp(p.PC, p.GATEWAY, 40000, 443))) == (Verdict.REFUSE, Reason.QUARANTINE)
    assert said(model, LAN, out(p.udp(p.PC, p.GATEWAY, 68, 67))) == (Verdict.PASS, Reason.LOCAL)
    assert said(model, LAN, out(p.udp(p.CAMERA, p.PLAIN, 1, 2), smac=p.CAMERA_MAC)) == (Verdict.PASS, Reason.DEFAULT)


def test_device_class_asks_as_then_country_then_default() -> None:
    policy = replace(
        HOME,
        device_class={p.CAMERA_MAC: (2, 0)},
        geo={"203.0.113.0/24": (64500, "US"), "198.18.0.0/15": (0, "FR")},
        class_policy={(2, PK_DEFAULT, 0): Action.BLOCK, (2, PK_COUNTRY, "FR"): Action.ALLOW, (2, PK_AS, 64500): 2},
    )
    for address, expected in (
        ("203.0.113.7", (Verdict.OBSERVE, Reason.DEVICE_CLASS)),
        ("198.18.0.1", (Verdict.PASS, Reason.DEFAULT)),
        ("192.0.2.1", (Verdict.REFUSE, Reason.DEVICE_CLASS)),
    ):
        frame = out(p.udp(p.CAMERA, address, 40000, 443), smac=p.CAMERA_MAC)
        assert said(Model(policy), LAN, frame) == expected


def test_port_scoped_indicator() -> None:
    scoped = replace(
        HOME, classes={1: IndicatorClass(CLASS_PORTS, action=Action.BLOCK)}, base={"198.51.100.66/32": 1},
        base_ports=frozenset({(p.TOXIC, 443)}), names={},
    )  # fmt: skip
    assert said(Model(scoped), LAN, out(p.tcp(p.PC, p.TOXIC, 40000, 443)))[0] == Verdict.REFUSE
    assert said(Model(scoped), LAN, out(p.tcp(p.PC, p.TOXIC, 40000, 80)))[0] == Verdict.PASS


def test_direction_of_an_indicator_follows_the_opener() -> None:
    inward = replace(HOME, classes={1: IndicatorClass(direction=Direction.IN, action=Action.BLOCK)}, names={})
    inward.base = {"198.51.100.0/24": 1}
    model = Model(inward)
    assert said(model, LAN, out(p.tcp(p.PC, p.TOXIC, 40000, 443)))[0] == Verdict.PASS
    assert said(model, WAN, back(p.tcp(p.TOXIC, p.PC, 9, 22))) == (Verdict.DROP, Reason.TOXIC_ADDRESS)


def test_learnt_address_of_a_protected_name_is_spared() -> None:
    model = Model(replace(HOME, learn=True))
    said(model, LAN, out(p.udp(p.PC, p.RESOLVER, 40000, 53, p.dns_query("www.good.example"))))
    answer = p.dns_answer("www.good.example", [p.TOXIC], cname="cdn.other.org")
    assert said(model, WAN, back(p.udp(p.RESOLVER, p.PC, 53, 40000, answer)))[0] == Verdict.PASS
    frame = out(p.tcp(p.PC, p.TOXIC, 40001, 443))
    assert said(model, LAN, frame) == (Verdict.PASS, Reason.NEVER_BLOCK)
    assert said(model, LAN, frame, NOW + 3600) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


def test_untrusted_resolver_teaches_nothing() -> None:
    model = Model(replace(HOME, learn=True))
    said(model, LAN, out(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("www.good.example"))))
    said(model, WAN, back(p.udp(p.PLAIN, p.PC, 53, 40000, p.dns_answer("www.good.example", [p.TOXIC]))))
    assert model.resolved == {}


def test_resolved_entries_expire() -> None:
    policy = replace(HOME, learn=True, resolved={p.TOXIC: Resolved(NOW - 1, never=True)})
    assert said(Model(policy), LAN, out(p.tcp(p.PC, p.TOXIC, 1, 2))) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (out(p.tcp(p.PC, p.PLAIN, 1, 2), smac=p.BOX_MAC), (Verdict.DROP, Reason.SPOOF)),
        (p.probe(HOME.probe_nonce), (Verdict.DROP, Reason.LOOP)),
        (p.probe(HOME.probe_nonce + 1), (Verdict.DROP, Reason.SPOOF)),
        (p.arp(p.PC, p.BOX), (Verdict.PASS, Reason.NOT_IP)),
        (p.arp(p.BOX, p.PC), (Verdict.DROP, Reason.SPOOF)),
        (out(p.udp(p.BOX, p.PLAIN, 1, 2)), (Verdict.DROP, Reason.SPOOF)),
        (out(p.tcp(p.PC, p.BOX, 1, 443)), (Verdict.PASS, Reason.OWN)),
        (out(p.tcp(p.PC, p.BOX, 1, 22)), (Verdict.DROP, Reason.NOT_FOR_BOX)),
        (out(p.tcp(p.PLAIN, p.BOX, 1, 443)), (Verdict.DROP, Reason.NOT_FOR_BOX)),
        (out(p.echo(p.PC, p.BOX)), (Verdict.PASS, Reason.OWN)),
        (out(p.udp(p.PC, "239.1.2.3", 1, 2)), (Verdict.PASS, Reason.MULTICAST)),
        (out(p.udp("0.0.0.0", p.PLAIN, 1, 2)), (Verdict.DROP, Reason.BAD_SOURCE)),
        (out(p.udp("127.0.0.1", p.PLAIN, 1, 2)), (Verdict.DROP, Reason.BAD_SOURCE)),
        (out(p.udp(p.PC, p.NEIGHBOUR, 1, 2)), (Verdict.PASS, Reason.LOCAL)),
    ],
)
def test_gates(frame: bytes, expected: tuple[Verdict, Reason]) -> None:
    assert said(Model(HOME), LAN, frame) == expected


def test_forged_on_link_source_behind_the_gateway_is_not_local() -> None:
    frame = back(p.udp(p.NEIGHBOUR, p.PC, 1, 2))
    assert said(Model(HOME), WAN, frame) == (Verdict.REFUSE, Reason.INBOUND)
    honest = back(p.udp(p.NEIGHBOUR, p.PC, 1, 2), smac=p.NEIGHBOUR_MAC)
    assert said(Model(HOME), WAN, honest) == (Verdict.PASS, Reason.LOCAL)


def test_tags_are_walked_four_deep() -> None:
    toxic = p.tcp(p.PC, p.TOXIC, 40000, 443)
    for depth in range(5):
        frame = p.ether(toxic, vlans=range(2, 2 + depth))
        assert said(Model(HOME), LAN, frame) == (Verdict.REFUSE, Reason.TOXIC_ADDRESS), depth
    outcome = Model(HOME).decide(LAN, p.ether(toxic, vlans=range(2, 7)), NOW)
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, Reason.VLAN_DEPTH)


def test_every_cut_of_a_frame_is_decided() -> None:
    for packet in (p.tcp(p.PC, p.TOXIC, 40000, 443), p.extensions6(p.udp(p.PC6, p.TOXIC6, 1, 2), [0, 60])):
        whole = p.ether(packet)
        for size in range(len(whole)):
            assert Model(HOME).decide(LAN, whole[:size], NOW).verdict == Verdict.PASS, size


@pytest.mark.parametrize("count", [0, 1, 8])
def test_extension_headers_up_to_eight(count: int) -> None:
    frame = p.ether(p.extensions6(p.tcp(p.PLAIN6, p.PC6, 40000, 22, "S"), [0, 60, 43, 135, 139, 140, 51, 60][:count]))
    assert said(Model(HOME), WAN, frame) == (Verdict.REFUSE, Reason.INBOUND)


def test_unreadable_extension_chain_is_dropped_inbound() -> None:
    frame = p.ether(p.extensions6(p.tcp(p.PLAIN6, p.PC6, 40000, 22, "A"), [60] * 9))
    assert said(Model(HOME), WAN, frame) == (Verdict.DROP, Reason.INBOUND)
    assert said(Model(HOME), LAN, frame) == (Verdict.DROP, Reason.EXT_HEADERS)


def test_fragments_get_the_address_verdict_only() -> None:
    query = p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example"))
    assert said(Model(HOME), LAN, out(p.fragment4(query, 0, more=True))) == (Verdict.DROP, Reason.FRAGMENT)
    later = p.fragment4(p.udp(p.TOXIC, p.PC, 1, 2), 10, more=False)
    assert said(Model(HOME), WAN, back(later)) == (Verdict.DROP, Reason.TOXIC_ADDRESS)
    assert said(Model(HOME), WAN, back(p.fragment4(p.udp(p.PLAIN, p.PC, 1, 2), 10, more=False)))[0] == Verdict.PASS


def test_intervals_let_the_longest_prefix_hold() -> None:
    table = {"10.0.0.0/8": 1, "10.1.0.0/16": 2}
    assert [value for _, _, value in intervals(table, 4)] == [1, 2, 1]
