"""ClientHello: names, refusals, splits."""

from __future__ import annotations

import ssl

import pytest

from tests.unit.decode import make
from vigie.filter.decode import tls
from vigie.filter.decode.tls import BAD, NEED_MORE, NOT_TLS, Hello, parse_client_hello


def openssl_hello(name: str | None) -> bytes:
    """What a real client library sends."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_openssl() -> None:
    hello = parse_client_hello(openssl_hello("Impots.GOUV.fr"))
    assert hello == Hello("impots.gouv.fr", alpn=("h2", "http/1.1"))
    assert parse_client_hello(openssl_hello(None)) == Hello(None, alpn=("h2", "http/1.1"))


def test_every_prefix_of_a_large_hello() -> None:
    message = make.hello_message(b"toxic.example", before=make.LARGE, after=make.extension(0x0A0A, b""))
    data = make.records(message, [1, 2, 700, 3])
    decided = 0
    for size in range(len(data) + 1):
        result = parse_client_hello(data[:size])
        if result is NEED_MORE:
            assert not decided, size
        else:
            decided += 1
            assert isinstance(result, Hello), (size, result)
            assert result.name == "toxic.example"
    assert decided
    assert parse_client_hello(data + b"\x14\x03\x03\0\x01\x01") == Hello("toxic.example")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (b"192.0.2.1", "ip-literal"),
        (b"[2001:db8::1]", "ip-literal"),
        (b"2001:db8::1", "ip-literal"),
        (b"caf\xc3\xa9.fr", "not-ascii"),
        (b"a b.fr", "bad-label"),
        (b"a..fr", "bad-label"),
        (b".", "bad-label"),
        (b"x" * 64 + b".fr", "bad-label"),
        (b"a." * 126 + b"fr", "too-long"),
        (b"a." * 200 + b"fr", "too-long"),
        (b"", "empty"),
        (b"a.fr\0evil", "bad-label"),
    ],
)
def test_names_that_cannot_be_compared(name: bytes, problem: str) -> None:
    assert parse_client_hello(make.records(make.hello_message(name))) == Hello(None, problem)


@pytest.mark.parametrize("name", [b"_dmarc.Example.ORG", b"xn--caf-dma.fr", b"localhost", b"a-b.c_d.fr", b"1.2.3.com"])
def test_names_that_are_fine(name: bytes) -> None:
    expected = name.decode().lower()
    assert parse_client_hello(make.records(make.hello_message(name))) == Hello(expected)
    assert parse_client_hello(make.records(make.hello_message(name + b"."))) == Hello(expected)


def test_ech_is_flagged() -> None:
    for before, after in ((make.extension(0xFE0D, b"\0" * 40), b""), (b"", make.extension(0xFE0D, b"\0" * 40))):
        hello = parse_client_hello(make.records(make.hello_message(b"public.example", before=before, after=after)))
        assert hello == Hello("public.example", ech=True)


def test_a_name_before_the_end_is_enough() -> None:
    data = make.records(make.hello_message(b"early.example", after=make.LARGE))
    assert parse_client_hello(data[:200]) == Hello("early.example", whole=False)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x02\0", b"\x15\x03\x01\0\x02\x01\0", b"\x16\x03\x05"],
)
def test_not_tls(data: bytes) -> None:
    assert parse_client_hello(data) is NOT_TLS


def test_server_hello_is_not_a_client_hello() -> None:
    assert parse_client_hello(make.records(b"\x02" + make.hello_message()[1:])) is NOT_TLS


@pytest.mark.parametrize(
    "data", [b"", b"\x16", b"\x16\x03", b"\x16\x03\x01\x02", b"\x16\x03\x01\x02\0", b"\x16\x03\x01\x02\0\x01"]
)
def test_too_little_to_say(data: bytes) -> None:
    assert parse_client_hello(data) is NEED_MORE


def _with(message: bytes, at: int, value: bytes) -> bytes:
    return make.records(message[:at] + value + message[at + len(value) :])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\0\0",  # empty record
        b"\x16\x03\x01\x40\x01",  # record too long
        make.records(make.hello_message(), [10])[:15] + b"\x17\x03\x01\0\x01x",  # another record type in the middle
        make.records(b"\x01\xff\xff\xff" + bytes(50)),  # larger than any hello
        make.records(b"\x01\0\0\x05" + bytes(5)),  # shorter than any hello
        _with(make.hello_message(), 4, b"\x02"),  # version
        _with(make.hello_message(), 38, b"\x21"),  # session id of 33 bytes
        _with(make.hello_message(), 71, b"\0\x03"),  # odd cipher list
        _with(make.hello_message(), 77, b"\0"),  # no compression method
        _with(make.hello_message(), 79, b"\0\x01"),  # extensions' length
        make.records(make.hello_message(b"a.fr", after=make.server_name(b"b.fr"))),  # twice
        make.records(make.hello_message(None, after=make.extension(0, b"\0\x05\x01\0\x02ab"))),  # unknown name type
        make.records(make.hello_message(None, after=make.extension(0, b"\0\x0a\0\0\x02ab\0\0\x02cd"))),  # two names
        make.records(make.hello_message(None, after=make.extension(0, b""))),
        make.records(make.hello_message(None, after=b"\0\0\xff")),  # cut extension
    ],
)
def test_malformed(data: bytes) -> None:
    assert parse_client_hello(data) is BAD


def test_hello_without_extensions() -> None:
    message = make.hello_message(None)[:-2]
    message = message[:1] + (len(message) - 4).to_bytes(3, "big") + message[4:]
    assert parse_client_hello(make.records(message)) == Hello(None)


def test_message_without_records() -> None:
    assert tls.parse_hello_message(make.hello_message(b"quic.example")) == Hello("quic.example")
    assert tls.parse_hello_message(b"") is NEED_MORE
