"""QUIC Initial packets: the vectors of RFC 9001 and RFC 9369 (appendices A), and what clients do with them."""

from __future__ import annotations

import itertools
import random

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from tests.unit.decode import make
from vigie.filter.decode import quic
from vigie.filter.decode.quic import VERSION_1, VERSION_2, InitialKeys, InitialStream, Kind
from vigie.filter.decode.tls import BAD, NEED_MORE, Hello

DCID = bytes.fromhex("8394c8f03e515708")
# The CRYPTO frame of both appendices (A.2), padded to 1,162 bytes; the name is example.com.
CLIENT_FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c00000"
    "0010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000"
    "003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e"
    "0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff080110"
    "0104800075300901100f088394c8f03e51570806048000ffff"
)
SERVER_FRAMES = bytes.fromhex(
    "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a1200130100002e0033"
    "0024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304"
)
VECTORS = {
    VERSION_1: {
        "key": "1f369613dd76d5467730efcbe3b1a22d",
        "iv": "fa044b2f42a3fd3b46fb255c",
        "hp": "9f50449e04a0e810283a1e9933adedd2",
        "server": ("cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e", "c206b8d9b9f0f37644430b490eeaa314"),
        "start": "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
        "end": "e221af44860018ab0856972e194cd934",
        "answer": "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb3"
        "8cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7a"
        "af2f58891850abbdca3d20398c276456cbc42158407dd074ee",
    },
    VERSION_2: {
        "key": "8b1a0bc121284290a29e0971b5cd045d",
        "iv": "91f73e2351d8fa91660e909f",
        "hp": "45b95e15235d6f45a6b19cbcb0294ba9",
        "server": ("82db637861d55e1d011f19ea71d5d2a7", "dd13c276499c0249d3310652", "edf6d05c83121201b436e16877593c3a"),
        "start": "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
        "end": "6f4c4938ae79324dc402894b44faf8afbab35282ab659d13c93f70412e85cb199a37ddec600545473cfb5a05e08d0b"
        "209973b2172b4d21fb69745a262ccde96ba18b2faa745b6fe189cf772a9f84cbfc",
        "answer": "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf87263017"
        "915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881eaf21ce"
        "da98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140",
    },
}


@pytest.mark.parametrize("version", VECTORS)
def test_appendix_a1_keys(version: int) -> None:
    vector = VECTORS[version]
    keys = InitialKeys.derive(version, DCID)
    assert (keys.key.hex(), keys.iv.hex(), keys.hp.hex()) == (vector["key"], vector["iv"], vector["hp"])
    keys = InitialKeys.derive(version, DCID, server=True)
    assert (keys.key.hex(), keys.iv.hex(), keys.hp.hex()) == vector["server"]


@pytest.mark.parametrize("version", VECTORS)
def test_appendix_a2_client_initial(version: int) -> None:
    payload = CLIENT_FRAME.ljust(1162, b"\0")
    packet = make.initial(payload, version=version)
    # The tag at the end covers every byte: start and end right means the whole packet of the RFC.
    assert len(packet) == 1200
    assert packet.hex().startswith(str(VECTORS[version]["start"]))
    assert packet.hex().endswith(str(VECTORS[version]["end"]))
    header = quic.parse_header(packet)
    assert (header.kind, header.dcid, header.scid, header.end) == (Kind.INITIAL, DCID, b"", 1200)
    assert InitialKeys.derive(version, DCID).open(packet, 0, header) == (2, payload)
    hello = InitialStream().feed(packet)
    assert isinstance(hello, Hello)
    assert (hello.name, hello.alpn) == ("example.com", ("alpn",))


@pytest.mark.parametrize("version", VECTORS)
def test_appendix_a3_server_initial(version: int) -> None:
    packet = bytes.fromhex(str(VECTORS[version]["answer"]))
    header = quic.parse_header(packet)
    assert header.scid.hex() == "f067a5502a4262b5"
    assert InitialKeys.derive(version, DCID, server=True).open(packet, 0, header) == (1, SERVER_FRAMES)


def test_appendix_a4_retry_is_not_an_initial() -> None:
    for packet in (
        "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
        "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
    ):
        header = quic.parse_header(bytes.fromhex(packet))
        assert (header.kind, header.scid.hex()) == (Kind.OTHER, "f067a5502a4262b5")
        assert InitialStream().feed(bytes.fromhex(packet)) is Kind.OTHER


@pytest.mark.parametrize("version", VECTORS)
@pytest.mark.parametrize("seed", range(8))
def test_hello_cut_shuffled_and_spread(version: int, seed: int) -> None:
    """As Chrome does: small CRYPTO frames in any order among PING and PADDING, over several datagrams, some twice."""
    rng = random.Random(seed)
    message = make.hello_message(b"shuffled.example", before=make.LARGE)
    cuts = sorted({0, len(message), *(rng.randrange(len(message)) for _ in range(12))})
    pieces = [make.crypto(a, message[a:b]) for a, b in itertools.pairwise(cuts)]
    pieces += rng.sample(pieces, 3)
    rng.shuffle(pieces)
    stream = InitialStream()
    result: object = None
    for number in range(4):
        chosen = pieces[number::4]
        payload = b"".join(piece + rng.choice((b"\x01", b"\0" * 7, b"")) for piece in chosen).ljust(100, b"\0")
        packet = make.initial(payload, version=version, number=number, width=1 + number, token=b"tok")
        # A server's answer changes the destination id, not the keys.
        if number == 3:
            packet = make.initial(payload, version=version, number=number, dcid=b"other id")
        result = stream.feed(packet)
        if isinstance(result, Hello):
            break
        assert result is NEED_MORE
    assert isinstance(result, Hello)
    assert result.name == "shuffled.example"


def test_coalesced_packets() -> None:
    message = make.hello_message(b"coalesced.example", before=make.LARGE)
    acked = b"\x02" + b"".join(make.varint(value) for value in (5, 0, 1, 0, 1, 2))
    one = make.initial(acked + make.crypto(0, message[:600]), number=0)
    ecn = b"\x03" + make.varint(5) + make.varint(0) + make.varint(0) + make.varint(0) + b"\x01\x01\x01"
    two = make.initial(ecn + make.crypto(600, message[600:]), number=1)
    zero_rtt = b"\xd0" + one[1:5] + b"\x08" + DCID + b"\0" + b"\x10" + bytes(16)
    result = InitialStream().feed(one + zero_rtt + two + b"\0" * 30)
    assert isinstance(result, Hello)
    assert result.name == "coalesced.example"


def test_retry_changes_the_keys() -> None:
    message = make.hello_message(b"retry.example", before=make.LARGE)
    stream = InitialStream()
    assert stream.feed(make.initial(make.crypto(0, message[:700]))) is NEED_MORE
    result = stream.feed(make.initial(make.crypto(0, message), key_id=b"from the retry", token=b"t", number=7))
    assert isinstance(result, Hello)


def test_forged_packet_does_not_blind() -> None:
    message = make.hello_message(b"real.example")
    good = make.initial(make.crypto(0, message))
    forged = bytearray(good)
    forged[-1] ^= 1
    stream = InitialStream()
    assert stream.feed(bytes(forged)) is NEED_MORE
    result = stream.feed(good)
    assert isinstance(result, Hello)
    assert stream.failed == 1


def test_bounds_and_forbidden_frames() -> None:
    assert InitialStream().feed(make.initial(make.crypto(17_000, b"x" * 40))) is BAD
    assert InitialStream().feed(make.initial(b"\x08" + bytes(40))) is BAD
    assert InitialStream().feed(make.initial(b"\x01" * 1100)) is BAD
    assert InitialStream().feed(make.initial(make.crypto(0, b"\x02\0\0\x01x").ljust(40, b"\0"))) is not NEED_MORE
    stream = InitialStream()
    bad = bytes(make.initial(bytes(40)))[:-1] + b"\xff"
    results = [stream.feed(bad) for _ in range(20)]
    assert results[0] is NEED_MORE
    assert results[-1] is BAD


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("ff00001d", "draft-29"),
        ("51303436", "Q046"),
        ("1a2a3a4a", "grease"),
        ("54303531", "T051"),
        ("faceb002", "0xfaceb002"),
    ],
)
def test_versions_that_are_not_decoded(version: str, name: str) -> None:
    packet = b"\xc0" + bytes.fromhex(version) + b"\x08" + DCID + b"\0" + bytes(1300)
    header = quic.parse_header(packet)
    assert (header.kind, header.version_name) == (Kind.UNDECODABLE, name)
    assert InitialStream().feed(packet) is Kind.UNDECODABLE


def test_what_is_not_quic() -> None:
    for packet in (
        b"",
        b"\x40" * 40,
        b"\x80abcd",
        b"\xc0\0\0\0\x01\xff" + bytes(30),
        b"\xc0\x12\x34\x56\x78" + bytes(40),
    ):
        assert InitialStream().feed(packet) is Kind.NOT_QUIC
    assert InitialStream().feed(b"\x80\0\0\0\0" + bytes(20)) is Kind.NEGOTIATION


@pytest.mark.parametrize("version", VECTORS)
def test_a_real_client(version: int) -> None:
    configuration = QuicConfiguration(is_client=True, server_name="Real.Example", alpn_protocols=["h3"])
    configuration.original_version = version
    configuration.supported_versions = [version]
    client = QuicConnection(configuration=configuration)
    client.connect(("192.0.2.1", 443), now=0.0)
    stream = InitialStream()
    results = [stream.feed(datagram) for datagram, _ in client.datagrams_to_send(now=0.0)]
    hello = results[-1]
    assert isinstance(hello, Hello)
    assert (hello.name, hello.alpn) == ("real.example", ("h3",))
