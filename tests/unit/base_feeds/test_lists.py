"""The lists shipped with the product, and the loaders that refuse bad ones."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from vigie.contract.codes import DeviceClass
from vigie.errors import ListError, UsageError
from vigie.filter.base import lists
from vigie.filter.base.protect import parents
from vigie.filter.base.readers.tokens import name as name_of

CATEGORIES = {
    "etat",
    "etat-civil",
    "impots",
    "actes",
    "logiciels",
    "banques",
    "social",
    "urgence",
    "marches",
    "operateurs",
    "messagerie",
    "mises-a-jour",
    "antivirus",
    "certificats",
    "temps",
    "resolution",
}


def test_never_block_is_large_unique_valid_and_sourced() -> None:
    never = lists.never_block()
    assert len(never.names) >= 150
    assert len(set(never.names)) == len(never.names)
    assert all(name_of(name) == name for name in never.names)
    assert all(len(entry.source) > 2 for entry in never.entries)


def test_never_block_covers_every_category() -> None:
    never = lists.never_block()
    assert dict(never.categories).keys() == CATEGORIES
    used = {entry.category for entry in never.entries}
    assert used == CATEGORIES
    assert all(sum(entry.category == c for entry in never.entries) >= 2 for c in CATEGORIES)


@pytest.mark.parametrize(
    "name",
    [
        "impots.gouv.fr",
        "service-public.fr",
        "ants.gouv.fr",
        "legifrance.gouv.fr",
        "chorus-pro.gouv.fr",
        "s2low.org",
        "berger-levrault.com",
        "banque-france.fr",
        "ameli.fr",
        "caf.fr",
        "msa.fr",
        "urssaf.fr",
        "17cyber.gouv.fr",
        "cybermalveillance.gouv.fr",
        "ssi.gouv.fr",
        "data.gouv.fr",
        "marches-publics.gouv.fr",
        "windowsupdate.com",
        "lencr.org",
        "ntp.org",
    ],
)
def test_never_block_holds_what_a_commune_cannot_do_without(name: str) -> None:
    assert name in lists.never_block().names


@pytest.mark.parametrize(
    "name",
    [
        "ovh.net",
        "free.fr",
        "google.com",
        "googleapis.com",
        "amazonaws.com",
        "windows.net",
        "wanadoo.fr",
        "github.com",
        "sfr.net",
    ],
)
def test_never_block_has_no_name_under_which_strangers_live(name: str) -> None:
    assert name not in lists.never_block().names


def test_essential_services_are_ranked_and_never_blocked() -> None:
    services = lists.essential()
    assert [service.rank for service in services] == sorted(service.rank for service in services)
    assert {service.rank for service in services} == set(range(1, 10))
    never = set(lists.never_block().names)
    for service in services:
        for name in service.names:
            assert name in never or any(up in never for up in parents(name)), name


def test_voice_alarm_dns_and_time_survive_the_strictest_level() -> None:
    kept = [service for service in lists.essential() if service.rank <= 2]
    ports = {(port.protocol, port.port) for service in kept for port in service.ports}
    assert {(17, 53), (6, 53), (17, 123), (17, 5060), (6, 5060), (6, 5061)} <= ports
    assert {device for service in kept for device in service.devices} == {DeviceClass.PHONE, DeviceClass.ALARM}


def test_department_names_come_from_enrolment() -> None:
    (waiting,) = [service for service in lists.essential() if service.provided]
    assert waiting.rank == 3
    assert waiting.names == ()
    net = ipaddress.ip_network("185.1.1.0/24")
    filled = lists.provide(lists.essential(), ["Flotte.Departement.example"], [net])
    (got,) = [service for service in filled if service.provided]
    assert got.names == ("flotte.departement.example",)
    assert got.prefixes == (net,)
    with pytest.raises(UsageError, match="not a name"):
        lists.provide(lists.essential(), ["nope"])


def test_built_in_special_ranges_follow_the_registry() -> None:
    """Every range that `ipaddress` knows as special (IANA registries) is covered, whatever its exact bounds."""
    special = [one.range for one in lists.built_in().special]
    for text in (
        "0.1.2.3",
        "10.0.0.1",
        "100.127.255.255",
        "127.1.1.1",
        "169.254.1.1",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.251",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "100::1",
        "2001:db8::1",
        "fc00::1",
        "fe80::1",
        "ff02::fb",
        "64:ff9b::1",
    ):
        address = ipaddress.ip_address(text)
        assert any(r.family == address.version and r.first <= int(address) <= r.last for r in special), text
    for text in ("8.8.8.8", "1.1.1.1", "45.155.205.1", "2a00:1450::1", "2606:4700::1"):
        address = ipaddress.ip_address(text)
        assert not any(r.family == address.version and r.first <= int(address) <= r.last for r in special), text


def test_built_in_resolvers_and_fronts() -> None:
    built_in = lists.built_in()
    assert len(built_in.resolvers) >= 10
    assert all(service.source and service.ranges for service in built_in.resolvers + built_in.fronts + built_in.rented)
    assert built_in.suffixes.is_suffix("github.io")


NEVER = """version: 1
groups:
  - category: a
    label: A
    names:
      - {name: one.example, source: s}
      - {name: NAME, source: s}
    prefixes:
      - {prefix: PREFIX, source: s}
"""


@pytest.mark.parametrize(
    ("name", "prefix", "line", "word"),
    [
        ("one.example", "192.0.2.0/24", 7, "already on line 6"),
        ("Two.example", "192.0.2.0/24", 7, "not a name"),
        ("bücher.example", "192.0.2.0/24", 7, "not a name"),
        ("1.2.3.4", "192.0.2.0/24", 7, "not a name"),
        ("two.example", "192.0.2.1/24", 9, "not an address or a prefix"),
        ("two.example", "word", 9, "not an address or a prefix"),
    ],
)
def test_never_block_errors_name_the_line(tmp_path: Path, name: str, prefix: str, line: int, word: str) -> None:
    path = tmp_path / "never.yaml"
    path.write_text(NEVER.replace("NAME", name).replace("PREFIX", prefix), encoding="utf-8")
    with pytest.raises(ListError, match=word) as caught:
        lists.load_never_block(path)
    assert caught.value.line == line


def test_never_block_reads_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "never.yaml"
    path.write_text(NEVER.replace("NAME", "two.example").replace("PREFIX", "185.1.0.0/16"), encoding="utf-8")
    never = lists.load_never_block(path)
    assert never.names == ("one.example", "two.example")
    assert never.prefixes == (ipaddress.ip_network("185.1.0.0/16"),)
    path.write_text(NEVER.replace("category: a", "category: a") + "  - {category: a, label: B}\n", encoding="utf-8")
    with pytest.raises(ListError):
        lists.load_never_block(path)


ESSENTIAL = "version: 1\nservices:\n  - {rank: 2, key: a, label: A, source: s, ports: [udp/53]}\n"


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ("{rank: 0, key: b, label: B, source: s, ports: [udp/54]}", "not in 1..9"),
        ("{rank: 10, key: b, label: B, source: s, ports: [udp/54]}", "not in 1..9"),
        ("{rank: 1, key: b, label: B, source: s, ports: [udp/54]}", "listed by rank"),
        ("{rank: 2, key: a, label: B, source: s, ports: [udp/54]}", "already on line"),
        ("{rank: 2, key: b, label: B, source: s, ports: [udp/53]}", "already on line"),
        ("{rank: 2, key: b, label: B, source: s, ports: [sctp/53]}", "not tcp/PORT"),
        ("{rank: 2, key: b, label: B, source: s, ports: [udp/0]}", "not tcp/PORT"),
        ("{rank: 2, key: b, label: B, source: s, ports: [udp/70000]}", "not tcp/PORT"),
        ("{rank: 2, key: b, label: B, source: s, devices: [toaster]}", "unknown device class"),
        ("{rank: 2, key: b, label: B, source: s}", "needs one of"),
        ("{rank: 2, key: b, label: B, source: s, provided_by: chance}", "only `enrolment`"),
        ("{rank: 2, key: b, label: B, names: [x.example]}", "'source' is missing"),
    ],
)
def test_essential_errors(tmp_path: Path, extra: str, word: str) -> None:
    path = tmp_path / "essential.yaml"
    path.write_text(ESSENTIAL, encoding="utf-8")
    assert len(lists.load_essential(path)) == 1
    path.write_text(f"{ESSENTIAL}  - {extra}\n", encoding="utf-8")
    with pytest.raises(ListError, match=word) as caught:
        lists.load_essential(path)
    assert caught.value.line == 4
