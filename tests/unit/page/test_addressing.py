"""The address without DHCP: what may be wished, and when a link-local one comes and goes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.host.addressing import (
    DHCP,
    FALLBACK_S,
    FAREWELL_S,
    LINK_LOCAL,
    AddressError,
    Fixed,
    Own,
    Seen,
    Target,
    link_local,
    parse_form,
    parse_json,
    resolv,
    target,
)

FORM = {"address": "192.168.1.20", "prefix": "24", "gateway": "192.168.1.1", "dns": "192.168.1.1, 9.9.9.9"}
WISH = Fixed(
    IPv4Interface("192.168.1.20/24"), IPv4Address("192.168.1.1"), (IPv4Address("192.168.1.1"), IPv4Address("9.9.9.9"))
)
LOCAL = link_local(bytes.fromhex("020000000001"), 0)
LEASE = IPv4Interface("10.0.0.7/8")


@pytest.mark.parametrize("prefix", ["24", "/24", " 24 ", "255.255.255.0"])
def test_a_form_as_people_type_it(prefix: str) -> None:
    assert parse_form(FORM | {"prefix": prefix}) == WISH
    assert parse_json(WISH.to_json()) == WISH and parse_json(DHCP) is None
    assert resolv(WISH.dns) == "nameserver 192.168.1.1\nnameserver 9.9.9.9\n"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", ""),
        ("address", "192.168.1"),
        ("address", "192.168.1.256"),
        ("address", "192.168.01.2"),
        ("address", "192.168.1.0"),
        ("address", "192.168.1.255"),
        ("address", "127.0.0.1"),
        ("address", "224.0.0.1"),
        ("address", "169.254.3.4"),
        ("address", "0.0.0.1"),
        ("address", "255.255.255.255"),
        ("address", "fe80::1"),
        ("address", "192.168.1.20\nx"),
        ("prefix", ""),
        ("prefix", "0"),
        ("prefix", "7"),
        ("prefix", "31"),
        ("prefix", "33"),
        ("prefix", "255.255.0.255"),
        ("prefix", "vingt-quatre"),
        ("gateway", "192.168.2.1"),
        ("gateway", "192.168.1.20"),
        ("gateway", "192.168.1.255"),
        ("gateway", ""),
        ("dns", ""),
        ("dns", "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4"),
        ("dns", "dns.google"),
        ("dns", "127.0.0.53"),
    ],
)
def test_a_mistake_names_its_field(field: str, value: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_form(FORM | {field: value})
    assert caught.value.field == field, caught.value


@given(st.dictionaries(st.sampled_from(sorted(FORM)), st.text(max_size=30)))
def test_any_form_is_a_wish_that_holds_or_a_named_mistake(form: dict[str, str]) -> None:
    try:
        wish = parse_form(FORM | form)
    except AddressError as e:
        assert e.field in FORM and str(e)
    else:
        assert parse_json(wish.to_json()) == wish and wish.gateway in wish.address.network


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"mode": "other"},
        {"mode": "fixed"},
        WISH.to_json() | {"dns": []},
        WISH.to_json() | {"dns": "9.9.9.9"},
        WISH.to_json() | {"address": "10.0.0.1/24"},
        WISH.to_json() | {"gateway": 7},
    ],
)
def test_a_spoilt_request_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(AddressError):
        parse_json(value)


@given(st.binary(min_size=6, max_size=6), st.integers(0, 9))
def test_link_local_addresses_keep_to_their_range_and_their_mac(mac: bytes, turn: int) -> None:
    found = link_local(mac, turn)
    assert found == link_local(mac, turn) and found.network == LINK_LOCAL
    assert IPv4Address("169.254.1.0") <= found.ip <= IPv4Address("169.254.254.255")


def test_link_local_addresses_are_spread() -> None:
    found = {link_local(number.to_bytes(6, "big"), 0).ip for number in range(2000)}
    assert len(found) > 1950, len(found)
    assert len({link_local(b"abcdef", turn).ip for turn in range(10)}) == 10


NONE, HELD = Own(), Own(link_local=LOCAL)


@pytest.mark.parametrize(
    ("wish", "seen", "own", "since", "result"),
    [
        (None, Seen(frozenset(), True), NONE, FALLBACK_S - 1, False),
        (None, Seen(frozenset(), True), NONE, FALLBACK_S, True),
        (None, Seen(frozenset(), False), NONE, 3600.0, False),  # no cable: nobody could ask
        (None, Seen(frozenset({LOCAL}), False), HELD, 3600.0, True),
        (None, Seen(frozenset({LOCAL}), True), HELD, 3600.0, True),
        (None, Seen(frozenset({LEASE}), True), NONE, 0.0, False),
        (None, Seen(frozenset({LEASE, LOCAL}), True), HELD, FAREWELL_S - 1, True),
        (None, Seen(frozenset({LEASE, LOCAL}), True), HELD, FAREWELL_S, False),
        (WISH, Seen(frozenset({WISH.address}), True), NONE, 3600.0, False),
        (WISH, Seen(frozenset(), True), NONE, FALLBACK_S, True),
    ],
)
def test_when_a_link_local_address_comes_and_goes(
    wish: Fixed | None, seen: Seen, own: Own, since: float, result: bool
) -> None:
    assert target(wish, seen, own, since) == Target(wish, result)
