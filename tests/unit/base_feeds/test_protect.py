"""What must never be blocked."""

from __future__ import annotations

import ipaddress
import json
import random
from pathlib import Path

import pytest

from tests.unit.base_feeds.support import SAMPLES, feed, read, v4, v6
from vigie.contract.codes import Action
from vigie.errors import FeedError, ListError
from vigie.filter.base import allowlists, lists, protect
from vigie.filter.base.columns import Entries
from vigie.filter.base.feeds import feeds_of, read_feed
from vigie.filter.base.protect import Kind, Protected, Protection
from vigie.filter.base.readers.tokens import classify
from vigie.filter.base.suffixes import Suffixes

PSL = Suffixes.parse(
    """co.uk
github.io
*.ck
!www.ck
// ===BEGIN PRIVATE DOMAINS===
duckdns.org
*.compute-1.amazonaws.com
""".splitlines()
)


def shared() -> allowlists.Allowlists:
    found = allowlists.Allowlists()
    found.take("amazon-aws", ["52.0.0.0/11", "2600:1f00::/24"])
    found.take("akamai", ["172.224.0.0/12"])
    found.take("public-dns-v4", ["81.2.3.4"])
    found.take("lots-project", [".drive.example-cloud.com", "bit.ly"])
    found.take("tranco10k", ["popular.com", "only-one-list.com"])
    found.take("majestic_million", ["popular.com"])
    found.take("unknown-list", ["ignored.com"])
    found.agree()
    return found


@pytest.fixture(scope="module")
def protection() -> Protection:
    return protect.build(
        lists.built_in(),
        lists.never_block(),
        allowlists=shared(),
        suffixes=PSL,
        resolved={"impots.gouv.fr": ["145.242.11.100", "2a02:26f0::1", "not an address"]},
    )


def run(text: str, protection: Protection, action: Action = Action.BLOCK) -> tuple[Entries, list[Protected]]:
    entries, _ = read(text, format="plain", max_bad=0.0)
    kept, taken = protect.protect(feed(action=action), entries, protection)
    kept.check()
    return kept, taken


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/8",
        "10.1.2.3",
        "10.0.0.0/8",
        "100.64.1.1",
        "127.0.0.1",
        "169.254.3.4",
        "172.31.0.1",
        "192.168.1.0/24",
        "192.0.2.1",
        "198.18.0.0/15",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "224.0.0.0/3",
        "::1",
        "fe80::1",
        "fd00::/8",
        "ff02::1",
        "2001:db8::/32",
        "2002::/16",
        "8.8.8.8",
        "1.1.1.1",
        "9.9.9.9",
        "80.67.169.12",
        "2620:fe::fe",
        "198.41.0.4",
        "104.16.1.1",
        "151.101.1.1",
        "13.224.0.5",
        "140.82.121.4",
        "52.97.1.1",
        "17.253.1.1",
        "142.250.1.1:443",
        "145.242.11.100",
        "2a02:26f0::1",
        "81.2.3.4",
    ],
)
def test_nothing_is_left(text: str, protection: Protection) -> None:
    kept, taken = run(text, protection)
    assert len(kept) == 0
    assert taken
    assert all(one.feed == "sample" and one.line == 1 and one.why and not one.cut for one in taken)


def test_partial_overlap_is_cut_to_the_remainder(protection: Protection) -> None:
    kept, taken = run("198.51.99.0-198.51.101.255\n191.255.255.0-192.0.0.255", protection)
    assert sorted(v4(kept)) == [
        "191.255.255.0-191.255.255.255",
        "198.51.101.0-198.51.101.255",
        "198.51.99.0-198.51.99.255",
    ]
    assert [(one.indicator, one.cut, one.kind) for one in taken] == [
        ("198.51.100.0/24", True, Kind.SPECIAL),
        ("192.0.0.0/24", True, Kind.SPECIAL),
    ]
    kept, _ = run("2001:db7:ffff::-2001:db9::1", protection)
    assert v6(kept) == ["2001:db7:ffff::-2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::-2001:db9::1"]


def test_rented_machines_stay_blockable_prefixes_do_not(protection: Protection) -> None:
    kept, taken = run(
        "52.1.2.3\n52.1.2.0/28\n52.1.3.0/27\n51.255.255.0-52.0.0.255\n2600:1f00::5\n2600:1f00::/48", protection
    )
    assert sorted(v4(kept)) == ["51.255.255.0-51.255.255.255", "52.1.2.0-52.1.2.15", "52.1.2.3"]
    assert v6(kept) == ["2600:1f00::5"]
    assert {one.line for one in taken} == {3, 4, 6}
    assert all(one.kind is Kind.RENTED and not one.kind.hard for one in taken)


def test_rented_part_of_a_front_range(protection: Protection) -> None:
    kept, taken = run("172.233.1.1\n172.226.1.1", protection)
    assert v4(kept) == ["172.233.1.1"]
    assert [one.by for one in taken] == ["akamai"]  # from the warning list: the built-in ranges leave 172.226/16 out


@pytest.mark.parametrize(
    ("address", "by"),
    [
        ("93.184.220.29", "Edgecast"),  # ocsp.digicert.com, listed by Maltrail for one bad customer
        ("23.55.0.1", "Akamai"),
        ("151.101.1.1", "Fastly"),
        ("104.16.1.1", "Cloudflare"),
        ("13.107.246.40", "Front Door"),
        ("13.224.1.1", "CloudFront"),
        ("2606:2800::1", "Edgecast"),
        ("2a02:26f0::1", "Akamai"),
        ("2620:1ec:bdf::40", "Front Door"),
    ],
)
def test_shared_fronts_are_known_without_any_warning_list(address: str, by: str) -> None:
    kept, (one,) = run(address, protect.build(lists.built_in(), lists.NeverBlock()))
    assert not len(kept)
    assert one.kind is Kind.FRONT
    assert by in one.by


def test_rented_part_of_a_built_in_front() -> None:
    kept, taken = run("104.105.1.1\n104.104.1.1", protect.build(lists.built_in(), lists.NeverBlock()))
    assert v4(kept) == ["104.105.1.1"]
    assert [one.line for one in taken] == [2]


def test_open_resolvers_are_protected_one_by_one_only(protection: Protection) -> None:
    kept, taken = run("81.2.3.0/24\n81.2.3.4", protection)
    assert v4(kept) == ["81.2.3.0-81.2.3.255"]
    assert [one.line for one in taken] == [2]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("impots.gouv.fr", Kind.NEVER),
        ("www.impots.gouv.fr", Kind.NEVER),
        ("evil.impots.gouv.fr", Kind.NEVER),
        ("gouv.fr", Kind.NEVER),
        ("finances.gouv.fr", Kind.NEVER),
        ("ovh.net", Kind.NEVER),  # above mail.ovh.net
        ("caisse-epargne.fr", Kind.NEVER),
        ("co.uk", Kind.SUFFIX),
        ("github.io", Kind.SUFFIX),
        ("duckdns.org", Kind.SUFFIX),
        ("anything.ck", Kind.SUFFIX),
        ("compute-1.amazonaws.com", Kind.SUFFIX),
        ("printer.local", Kind.LOCAL),
        ("nas.home.arpa", Kind.LOCAL),
        ("fritz.box", Kind.LOCAL),
        ("popular.com", Kind.SITE),
        ("bit.ly", Kind.SITE),
        ("drive.example-cloud.com", Kind.SITE),
        ("example-cloud.com", Kind.SITE),
    ],
)
def test_protected_names(name: str, kind: Kind, protection: Protection) -> None:
    kept, taken = run(name, protection)
    assert kept.names == []
    assert [(one.indicator, one.kind) for one in taken] == [(name, kind)]


@pytest.mark.parametrize(
    "name",
    [
        "bad.github.io",
        "evil.duckdns.org",
        "bad.popular.com",
        "x.bit.ly",
        "www.ck",
        "a.anything.ck",
        "only-one-list.com",
        "ignored.com",
        "impots-gouv.fr",
        "impots.gouv.fr.evil.com",
        "ec2-1-2-3-4.compute-1.amazonaws.com",
        "vps-1.vps.ovh.net",
        "malware.example",
    ],
)
def test_names_that_stay_blockable(name: str, protection: Protection) -> None:
    kept, taken = run(name, protection)
    assert kept.names == [name]
    assert taken == []


def test_lines_follow_the_names_that_stay(protection: Protection) -> None:
    kept, _ = run("a.example\nimpots.gouv.fr\nb.example", protection)
    assert kept.names == ["a.example", "b.example"]
    assert kept.name_line.tolist() == [1, 3]


def test_observe_keeps_what_it_only_watches(protection: Protection) -> None:
    kept, taken = run("dns.google\n8.8.8.8\n52.0.0.0/12\n10.0.0.1\ngithub.io\nnas.local", protection, Action.OBSERVE)
    assert kept.names == ["dns.google"]
    assert sorted(v4(kept)) == ["52.0.0.0-52.15.255.255", "8.8.8.8"]
    assert {one.kind for one in taken} == {Kind.SPECIAL, Kind.SUFFIX, Kind.LOCAL}


def test_allow_is_left_alone(protection: Protection) -> None:
    kept, taken = run("impots.gouv.fr\n10.0.0.0/8", protection, Action.ALLOW)
    assert len(kept) == 2
    assert taken == []


def test_documentation_ranges_can_be_left_for_demonstrations() -> None:
    demonstration = protect.build(lists.built_in(), lists.never_block(), documentation=False)
    kept, _ = run("192.0.2.1\n203.0.113.0/24\n2001:db8::1\n10.0.0.1", demonstration)
    assert len(kept) == 3


def test_ports_survive_a_cut(protection: Protection) -> None:
    kept, _ = run("185.1.1.1:4444\n8.8.8.8:53\n10.0.0.1", protection)
    assert v4(kept) == ["185.1.1.1:4444"]


def test_entries_given_are_not_changed(protection: Protection) -> None:
    entries, _ = read("10.0.0.1\n185.1.1.1\nimpots.gouv.fr\n", format="plain")
    protect.protect(feed(), entries, protection)
    assert len(entries) == 3


def test_same_as_asking_address_by_address(protection: Protection) -> None:
    """Random prefixes around the protected ranges: what stays is exactly what no guard covers."""
    pick = random.Random(7)
    special = [ipaddress.ip_network(one.text) for one in lists.built_in().special if one.range.family == 4]
    bare = protect.build(lists.built_in(), lists.NeverBlock())
    shared = lists.built_in().fronts + lists.built_in().resolvers
    fronts = [(r.first, r.last) for service in shared for r in service.ranges if r.family == 4]
    for _ in range(80):
        base = pick.choice(special)
        start = max(0, int(base.network_address) - pick.randrange(600))
        size = pick.randrange(1, 1200)
        last = min(2**32 - 1, start + size)
        text = f"{ipaddress.IPv4Address(start)}-{ipaddress.IPv4Address(last)}"
        entries, _ = read(text + "\n", format="plain")
        kept, _ = protect.protect(feed(), entries, bare)
        stays = {p for a, b in zip(kept.v4_first.tolist(), kept.v4_last.tolist(), strict=True) for p in range(a, b + 1)}
        covered = [(int(n.network_address), int(n.broadcast_address)) for n in special] + fronts
        near = [(low, high) for low, high in covered if low <= last and start <= high]
        expected = {p for p in range(start, last + 1) if not any(low <= p <= high for low, high in near)}
        assert stays == expected, text


def test_firehol_level1_leaves_no_special_range(data_dir: Path | None, protection: Protection) -> None:
    path = data_dir / "feeds" / "firehol" / "firehol_level1.netset" if data_dir else SAMPLES / "drop.txt"
    ((one, file, options),) = feeds_of([path])
    entries, _ = read_feed(one, file, options)
    kept, taken = protect.protect(one, entries, protection)
    assert len(kept) > 0
    for special in lists.built_in().special:
        if special.range.family == 4:
            crossing = (kept.v4_first <= special.range.last) & (kept.v4_last >= special.range.first)
            assert not crossing.any(), special.text
    assert "224.0.0.0/4" in {item.by for item in taken}


def test_suffixes_file(tmp_path: Path, data_dir: Path | None) -> None:
    wrong = tmp_path / "psl.dat"
    wrong.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ListError, match="not a public suffix list"):
        Suffixes.load(wrong)
    if data_dir:
        real = Suffixes.load(data_dir / "geo" / "psl" / "public_suffix_list.dat.xz")
        assert real.is_suffix("github.io")
        assert real.is_suffix("asso.fr")
        assert not real.is_suffix("evil.github.io")


def test_allowlists_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cloudflare.json").write_text(
        json.dumps({"type": "cidr", "list": ["104.16.0.0/13", "bad"]}), encoding="utf-8"
    )
    (tmp_path / "tranco10k.txt").write_text("a.example\nb.example\n", encoding="utf-8")
    (tmp_path / "alexa.txt").write_text("b.example\n", encoding="utf-8")
    found = allowlists.load(tmp_path)
    assert [stem for _, stem in found.front] == ["cloudflare"]
    assert found.names == {"b.example": "alexa, tranco10k"}
    (tmp_path / "google.json").write_text('{"nolist": 1}', encoding="utf-8")
    with pytest.raises(FeedError, match="google"):
        allowlists.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeedError, match="no list"):
        allowlists.load(tmp_path / "empty")


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1",
        "192.0.2.0/24",
        "192.0.2.1-192.0.2.6",
        "192.0.2.1:80",
        "2001:db8::1",
        "2001:db8::/32",
        "[2001:db8::1]:80",
    ],
)
def test_show_is_read_back(text: str) -> None:
    what = classify(text)
    assert not isinstance(what, str)
    shown = protect.show(what.family, what.first, what.last, what.port)  # type: ignore[union-attr]
    assert classify(shown) == what


@pytest.mark.slow
def test_real_warning_lists(data_dir: Path | None, tmp_path: Path) -> None:
    """The real archive; on a machine without it, a list of the same shape."""
    if data_dir:
        found = allowlists.load(
            data_dir / "geo" / "allowlists" / "misp-warninglists.tar.xz", data_dir / "geo" / "topsites"
        )
        assert {"cloudflare", "amazon-aws", "public-dns-v4", "tranco10k", "crl-hostname"} <= set(found.used)
        assert "shutterstock.com" in found.names
        assert "713mtauburnctcolumbusoh43085.st" not in found.names  # live malware, ranked by one list
    else:
        path = tmp_path / "cloudflare.json"
        path.write_text((SAMPLES / "warninglist.json").read_text(encoding="utf-8"), encoding="utf-8")
        found = allowlists.load(path)
        assert len(found.front) == 2
    built = protect.build(lists.built_in(), lists.never_block(), allowlists=found)
    assert built.always[4].first == sorted(built.always[4].first)
