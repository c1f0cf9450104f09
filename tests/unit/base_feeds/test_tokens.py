"""Scalar reading of one token."""

from __future__ import annotations

import ipaddress

import pytest

from vigie.filter.base.readers.tokens import Range, Unusable, classify, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("a-b.example", "a-b.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2008: not strasse.example, which is somebody else
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_names(text: str, expected: str) -> None:
    assert name(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "com",
        "com.",
        "a..b",
        ".example.com",
        "example.com..",
        "-a.example",
        "a-.example",
        "a b.example",
        "1.2.3.4",
        "1.2.3",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "ex*mple.com",
        "exa\u200bmple.com",
        "a\ufffd.example",
        "exam\u200dple.com",
        "a/b.example",
        "é" * 60 + ".example",
        "127.1",
        "example.123",
    ],
)
def test_not_names(text: str) -> None:
    assert name(text) is None


def test_longest_name() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(longest) == 253
    assert name(longest) == longest
    assert name("x" + longest) is None


def addresses(text: str) -> tuple[str, str, int]:
    found = classify(text)
    assert isinstance(found, Range), found
    kind = ipaddress.IPv4Address if found.family == 4 else ipaddress.IPv6Address
    return str(kind(found.first)), str(kind(found.last)), found.port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", "192.0.2.1", 0)),
        ("192.0.2.0/24", ("192.0.2.0", "192.0.2.255", 0)),
        ("192.0.2.1-192.0.2.9", ("192.0.2.1", "192.0.2.9", 0)),
        ("192.0.2.1 - 192.0.2.9", ("192.0.2.1", "192.0.2.9", 0)),
        ("192.0.2.1:80", ("192.0.2.1", "192.0.2.1", 80)),
        ("2001:DB8::1", ("2001:db8::1", "2001:db8::1", 0)),
        ("2001:db8::/126", ("2001:db8::", "2001:db8::3", 0)),
        ("2001:db8::1-2001:db8::4", ("2001:db8::1", "2001:db8::4", 0)),
        ("[2001:db8::1]:443", ("2001:db8::1", "2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", "2001:db8::1", 0)),
        ("::ffff:192.0.2.1", ("192.0.2.1", "192.0.2.1", 0)),
        ("http://192.0.2.1", ("192.0.2.1", "192.0.2.1", 80)),
        ("https://192.0.2.1/", ("192.0.2.1", "192.0.2.1", 443)),
        ("http://192.0.2.1:8080", ("192.0.2.1", "192.0.2.1", 8080)),
        ("tcp://192.0.2.1", ("192.0.2.1", "192.0.2.1", 0)),
        ("http://[2001:db8::1]:8080/", ("2001:db8::1", "2001:db8::1", 8080)),
    ],
)
def test_addresses(text: str, expected: tuple[str, str, int]) -> None:
    assert addresses(text) == expected


def test_host_bits_warn() -> None:
    found = classify("2001:db8::1/64")
    assert isinstance(found, Range)
    assert "2001:db8::/64" in found.warning


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1..218.28", "empty"),
        ("192.0.2.01", "leading zero"),
        ("192.0.2.256", "above 255"),
        ("192.0.2", "3 octets"),
        ("192.0.2.0/33", "prefix"),
        ("192.0.2.0/024", "prefix length"),
        ("0.0.0.0/0", "too much"),
        ("0.0.0.0/1", "too much"),
        ("::/0", "too much"),
        ("0.0.0.0-255.255.255.255", "too much"),
        ("192.0.2.9-192.0.2.1", "ends before"),
        ("192.0.2.1-2001:db8::1", "families"),
        ("192.0.2.1:0", "port"),
        ("192.0.2.1:65536", "port"),
        ("192.0.2.1:99999999999999999999", "port"),
        ("fe80::1%eth0", "zone"),
        ("2001:db8::g", "neither"),
        ("2001:db8::1::2", "IPv6"),
        ("word", "single word"),
        ("two words.example", "several words"),
        ("a..example", "empty label"),
        ("http://", "without a host"),
        ("http://[::1", "URL"),
        ("http://a..b/", "URL"),
        ("http://example.com:99999/", "URL"),
        ("\x1b[31mred.example", "control"),
    ],
)
def test_bad(text: str, word: str) -> None:
    found = classify(text)
    assert isinstance(found, Unusable), found
    assert found.bad
    assert word in found.reason


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/path",
        "https://example.com/?q",
        "https://example.com/#x",
        "example.com/path",
        "192.0.2.1/path",
        "example.com:8080",
        "http://example.com:8080/",
        "localhost",
    ],
)
def test_well_formed_but_not_for_a_base(text: str) -> None:
    found = classify(text)
    assert isinstance(found, Unusable), found
    assert not found.bad


@pytest.mark.parametrize(
    "text", ["http://example.com", "https://Example.com/", "http://example.com:80/", "example.com/"]
)
def test_bare_urls_give_their_host(text: str) -> None:
    assert classify(text) == "example.com"


@pytest.mark.parametrize("text", ["224.0.0.0/3", "fc00::/7"])
def test_widest_that_real_feeds_hold(text: str) -> None:
    assert isinstance(classify(text), Range)
