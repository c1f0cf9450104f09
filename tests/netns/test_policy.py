"""Tables of the data path, seen by the machines: exceptions, quarantine, isolation, dynamic blocks, country policy.

pc, camera -- lan0 [ box ] wan0 -- router -- internet
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator

import numpy as np
import pytest

from lab import plan, wire
from lab.bare import TOXIC, make_base
from lab.checks import toxic
from lab.clients import tls
from lab.clients.scan import scan
from lab.clients.steady import Conversation
from tests.netns.town import INDICATORS, Town, open_town
from vigie.contract.codes import Action, DeviceClass, Direction, InboundMode, Reason
from vigie.filter import abi
from vigie.filter.base.additions import Additions
from vigie.filter.base.columns import U64
from vigie.filter.base.geo import GeoRanges, country_value, plan_geo
from vigie.filter.base.image import build_image
from vigie.filter.entries import (
    ClassPolicy,
    Device,
    Dynamic,
    EssentialPort,
    ExceptionEntry,
    InboundAllow,
    LocalName,
    Quarantine,
)

PC, CAMERA = (wire.mac_bytes(plan.MACS[name]) for name in ("pc", "camera"))
BOTH = pytest.mark.parametrize("site", ["v4", "v6"])


@pytest.fixture(scope="module")
def served() -> Iterator[Town]:
    """With servers; every table is empty again after each test."""
    with open_town(offload=True) as made:
        yield made


@pytest.fixture
def town(served: Town) -> Iterator[Town]:
    yield served
    tables = served.path.tables
    with served.path.batch():
        for table in (
            tables.exceptions, tables.local_names, tables.quarantine, tables.dynamic, tables.inbound_allow,
            tables.device_class, tables.class_policy, tables.essential_ports,
        ):  # fmt: skip
            table.clear()
        served.path.settings.set_isolation(0)
        served.path.settings.set_inbound_mode(InboundMode.REFUSE)


def now() -> int:
    return int(time.monotonic())


def address(site: plan.Site, family: str) -> str:
    return site.v4 if family == "v4" else site.v6


@BOTH
def test_exception_frees_one_machine_and_one_port(town: Town, site: str) -> None:
    target = INDICATORS.toxic4 if site == "v4" else INDICATORS.toxic6
    town.path.tables.exceptions.add(ExceptionEntry(target, Action.ALLOW, mac=PC, port=443, proto=6))
    town.lab["pc"].must_reach(target, 443)
    town.lab["pc"].must_refuse_fast(target, 80)
    town.lab["camera"].must_refuse_fast(target, 443)


@BOTH
def test_exception_ends_by_itself(town: Town, site: str) -> None:
    target = INDICATORS.toxic4 if site == "v4" else INDICATORS.toxic6
    town.path.tables.exceptions.add(ExceptionEntry(target, Action.ALLOW, until_s=now() + 4))
    with Conversation(town.lab["pc"], target, plan.ECHO) as talk:
        talk.must_live()
        talk.wait_cut(10.0)
    town.lab["pc"].must_refuse_fast(target, plan.ECHO)


@BOTH
def test_block_of_a_network_cuts_what_is_under_way(town: Town, site: str) -> None:
    network = "193.51.24.16/28" if site == "v4" else f"{plan.CLOUD.v6}/128"
    with Conversation(town.lab["pc"], address(plan.CLOUD, site), plan.ECHO) as talk:
        talk.must_live()
        town.path.tables.exceptions.add(ExceptionEntry(network, Action.BLOCK))
        talk.wait_cut(2.0)
    town.lab["pc"].must_refuse_fast(address(plan.CLOUD, site), 443)
    town.lab["pc"].must_reach(address(plan.TOWN, site), 443)


def test_blocked_name_is_refused_by_dns_and_by_server_name(town: Town) -> None:
    number = town.path.name_hash(plan.CLOUD.name)
    town.path.tables.local_names.add(LocalName(number, Action.BLOCK, mac=PC))
    result = tls.dig(town.lab["pc"], plan.CLOUD.aliases[0], plan.GATEWAY4)
    assert "NXDOMAIN" in result.out, result.evidence
    tls.handshake(town.lab["pc"], plan.CLOUD.v4, 443, plan.CLOUD.name).require("refused")
    tls.handshake(town.lab["camera"], plan.CLOUD.v4, 443, plan.CLOUD.name).require("reached")


def test_allowed_name_is_answered(town: Town) -> None:
    number = town.path.name_hash(INDICATORS.toxic_names[0])
    town.path.tables.local_names.add(LocalName(number, Action.ALLOW))
    result = tls.dig(town.lab["pc"], f"www.{INDICATORS.toxic_names[0]}", plan.GATEWAY4)
    assert "NXDOMAIN" in result.out, "the internet's own server does not know this one"
    assert "Blocked" not in result.out, result.evidence
    assert tls.dig(town.lab["pc"], INDICATORS.toxic_names[0], plan.GATEWAY4, "+short").out.strip() == plan.HIDDEN.v4
    tls.handshake(town.lab["pc"], plan.HIDDEN.v4, 443, INDICATORS.toxic_names[0]).require("reached")


def test_never_block_name_spares_the_addresses_it_resolves_to(town: Town) -> None:
    """The base lists the tax office's server by mistake: who resolved its protected name reaches it."""
    wrong = make_base([plan.TAX.v4, *[INDICATORS.toxic4]], INDICATORS.toxic_names, serial=5)
    protected = Additions(never_names=("impots.gouv.fr",))
    town.path.load_image(abi.KIND_BASE, build_image(wrong, protected))
    town.path.settings.set_feature(abi.F_RESOLVED, True)
    try:
        town.lab["pc"].must_refuse_fast(plan.TAX.v4, 443)
        tls.dig(town.lab["pc"], plan.TAX.name, plan.GATEWAY4, "+short").require()
        town.lab["pc"].must_reach(plan.TAX.v4, 443)
        assert town.count(Reason.RESOLVED) > 0
    finally:
        town.path.settings.set_feature(abi.F_RESOLVED, False)
        town.path.load_image(abi.KIND_BASE, build_image(town.base))


@BOTH
def test_quarantine_cuts_one_machine_but_for_dhcp(town: Town, site: str) -> None:
    town.path.tables.quarantine.add(Quarantine(CAMERA))
    camera = town.lab["camera"]
    camera.must_refuse_fast(address(plan.CLOUD, site), 443)
    camera.must_not_reach(plan.GATEWAY4, attempts=1, timeout=0.5)
    town.lab["pc"].must_reach(address(plan.CLOUD, site), 443)


def test_isolation_keeps_what_is_essential(town: Town) -> None:
    """Level 2 keeps ranks 1 to 9, level 3 ranks 1 and 2; the printer and the telephone go on."""
    tables, pc = town.path.tables, town.lab["pc"]
    with town.path.batch():
        tables.essential_ports.add(EssentialPort(17, plan.SIP_PORT, 1), EssentialPort(6, 80, 5))
        town.path.settings.set_isolation(2, now() + 60)
    pc.must_refuse_fast(plan.TOWN.v4, 443)
    pc.must_reach(plan.TOWN.v4, 80)
    pc.must_reach(plan.host4("printer"), 9100)
    pc.must_reach(plan.host4("wifi"), 9100)
    assert town.lab["phone"].probe(plan.SIP.v4, plan.SIP_PORT, "udp", 0.3).outcome != "refused"
    town.path.settings.set_isolation(3, now() + 60)
    pc.must_refuse_fast(plan.TOWN.v4, 80)
    assert town.lab["phone"].probe(plan.SIP.v4, plan.SIP_PORT, "udp", 0.3).outcome != "refused"
    town.path.settings.set_isolation(2, now())
    pc.must_reach(plan.TOWN.v4, 443)


@BOTH
def test_dynamic_block_is_for_one_machine_and_ends(town: Town, site: str) -> None:
    target = address(plan.CLOUD, site)
    town.path.tables.dynamic.add(Dynamic(target, mac=CAMERA, until_s=now() + 4))
    town.lab["camera"].must_refuse_fast(target, 443)
    town.lab["pc"].must_reach(target, 443)
    town.lab["camera"].must_reach(target, 443, within=10)


@BOTH
def test_camera_may_talk_to_its_country_only(town: Town, site: str) -> None:
    """Default block for cameras, France allowed, everything else of theirs refused; the PC goes where it wants."""
    geo = geo_image({"193.51.24.0/24": "FR", "2001:660::/32": "FR", "1.12.0.0/16": "CN", "240e::/20": "CN"})
    town.path.load_image(abi.KIND_GEO, geo)
    with town.path.batch():
        town.path.tables.device_class.add(Device(CAMERA, DeviceClass.CAMERA))
        town.path.tables.class_policy.add(
            ClassPolicy(DeviceClass.CAMERA, Action.BLOCK), ClassPolicy(DeviceClass.CAMERA, Action.ALLOW, country="FR")
        )
    abroad = address(INDICATORS.abroad, site)
    town.lab["camera"].must_reach(address(plan.CLOUD, site), 443)
    town.lab["camera"].must_refuse_fast(abroad, 443)
    town.lab["pc"].must_reach(abroad, 443)
    assert town.count(Reason.DEVICE_CLASS) > 0


@BOTH
def test_inbound_port_in_use_is_allowed_for_its_machine(town: Town, site: str) -> None:
    printer = wire.mac_bytes(plan.MACS["printer"])
    town.path.tables.inbound_allow.add(InboundAllow(PC, 6, plan.FORWARDED))
    target = plan.WAN4 if site == "v4" else plan.host6("pc")
    with Conversation(town.lab.internet, target, plan.FORWARDED) as talk:
        talk.must_live()
        town.path.bump()
        talk.must_live()
    town.lab.internet.must_not_reach(target, plan.UNUSED, attempts=1)
    town.path.tables.inbound_allow.add(InboundAllow(printer, 6, 9100, until_s=now()))
    town.lab.internet.must_not_reach(plan.host6("printer"), 9100, attempts=1)


def test_inbound_default_waits_for_the_roles(town: Town) -> None:
    """Unknown roles or learning: what comes in passes and is noted; a listed source never does."""
    target = plan.host6("printer")
    town.lab.internet.must_not_reach(target, 9100, attempts=1)
    town.path.settings.set_inbound_mode(InboundMode.LEARN)
    town.lab.internet.must_reach(target, 9100)
    town.path.settings.set_inbound_mode(InboundMode.REFUSE)
    town.path.settings.set_wan_port(None)
    try:
        town.lab.internet.must_reach(target, 9100)
        town.lab["pc"].must_refuse_fast(INDICATORS.toxic4, 443)
    finally:
        town.path.settings.set_wan_port(1)
    town.lab.internet.must_not_reach(target, 9100, attempts=1)


def test_direction_of_an_indicator_counts(town: Town) -> None:
    """A scanner is refused when it comes, and stays reachable as a web server; a command server the other way round."""
    for direction, out, inward in ((Direction.IN, "reached", "silence"), (Direction.OUT, "refused", "reached")):
        base = make_base([plan.SCANNER.v6], serial=7)
        base.classes[1] = type(TOXIC)(action=Action.BLOCK, direction=direction, category=TOXIC.category)
        town.path.load_image(abi.KIND_BASE, build_image(base))
        town.path.settings.set_inbound_mode(InboundMode.LEARN)
        try:
            assert town.lab["pc"].probe(plan.SCANNER.v6, 443).outcome == out
            probe = toxic_probe(town, plan.SCANNER.v6, plan.host6("printer"))
            assert probe == inward
        finally:
            town.path.load_image(abi.KIND_BASE, build_image(town.base))


def toxic_probe(town: Town, source: str, target: str) -> str:
    """What a connection from that address of the internet to the printer meets."""
    result = scan(town.lab.internet, source, target, [9100], seconds=0.5)
    return "reached" if result.open else "refused" if result.refused else "silence"


def test_dns_over_tcp_is_cut_at_the_toxic_question(town: Town) -> None:
    assert toxic.by_name_over_tcp(town.office)


def geo_image(networks: dict[str, str]) -> bytes:
    """A geo image with these countries and no AS numbers."""

    def ranges(version: int) -> GeoRanges:
        found = [(ipaddress.ip_network(text), country) for text, country in networks.items()]
        mine = [(int(net[0]), int(net[-1]), country_value(c)) for net, c in found if net.version == version]
        first, last, value = zip(*sorted(mine), strict=True)
        return GeoRanges(halves(first), halves(last), np.array(value, np.uint64))

    plan_ = plan_geo([ranges(4)], [ranges(6)], 1)
    out = bytearray(plan_.nbytes)
    plan_.write(out)
    return bytes(out)


def halves(numbers: tuple[int, ...]) -> tuple[U64, U64]:
    """High and low 64 bits."""
    low = (1 << 64) - 1
    return np.array([n >> 64 for n in numbers], np.uint64), np.array([n & low for n in numbers], np.uint64)
