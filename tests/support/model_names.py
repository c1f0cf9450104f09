"""Names as the model reads them: DNS questions and answers, the server name of a TLS ClientHello."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_EXTENSIONS: Final = 1024


class Malformed(Exception):
    """The message contradicts itself or ends too early: no name verdict."""


class NotTls(Exception):
    """The payload does not begin like a TLS ClientHello."""


class NotHere(Exception):
    """A ClientHello whose server name is not (wholly) in this payload."""


Name = bytes
"""Lower case, labels separated by a zero byte, no root."""


def suffixes(name: Name) -> Iterator[Name]:
    """The name and each of its parents, longest first."""
    labels = name.split(b"\0") if name else []
    for i in range(len(labels)):
        yield b"\0".join(labels[i:])


def from_text(text: str) -> Name:
    """`Evil.Example.` as a Name."""
    return text.lower().rstrip(".").encode().replace(b".", b"\0")


def _lower(data: bytes) -> bytes:
    return bytes(b + 32 if 0x41 <= b <= 0x5A else b for b in data)


def _question(message: bytes) -> tuple[Name, int]:
    """The only question's name, and the offset behind the question."""
    labels = []
    at = 12
    while True:
        if at >= len(message):
            raise Malformed("name cut")
        size = message[at]
        if size == 0:
            break
        if size > 63:
            raise Malformed("pointer or reserved label in a question")
        if at + 1 + size > len(message):
            raise Malformed("label cut")
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    if at + 1 - 12 > 255:
        raise Malformed("name over 255 bytes")
    at += 1
    if at + 4 > len(message):
        raise Malformed("question cut")
    return _lower(b"\0".join(labels)), at + 4


def dns_query(message: bytes) -> Name | None:
    """The name asked for; None when this is no query with one question. Raises Malformed."""
    if not message:
        return None
    if len(message) < 12:
        raise Malformed("header cut")
    flags, questions = struct.unpack_from("!HH", message, 2)
    if flags & 0x8000 or questions != 1:
        return None
    return _question(message)[0]


@dataclass(frozen=True)
class Answer:
    """An address given by a DNS answer, 16 bytes, and its TTL in seconds."""

    address: bytes
    ttl: int


def dns_answers(message: bytes) -> tuple[Name, list[Answer]] | None:
    """The question's name and the addresses among the first 16 answer records; None when it is no such answer."""
    if len(message) < 12:
        return None
    flags, questions, count = struct.unpack_from("!HHH", message, 2)
    if not flags & 0x8000 or questions != 1:
        return None
    try:
        name, at = _question(message)
    except Malformed:
        return None
    found = []
    for _ in range(min(count, 16)):
        after = _skip_name(message, at)
        if after is None or after + 10 > len(message):
            break
        kind, klass, ttl, size = struct.unpack_from("!HHIH", message, after)
        data = message[after + 10 : after + 10 + size]
        at = after + 10 + size
        if len(data) < size:
            break
        if klass == 1 and kind == 1 and size == 4:
            found.append(Answer(bytes(10) + b"\xff\xff" + data, ttl))
        elif klass == 1 and kind == 28 and size == 16:
            found.append(Answer(data, ttl))
    return name, found


def _skip_name(message: bytes, at: int) -> int | None:
    start = at
    while at < len(message) and at - start <= 255:
        size = message[at]
        if size == 0:
            return at + 1
        if size & 0xC0 == 0xC0:
            return at + 2
        if size > 63:
            return None
        at += 1 + size
    return None


def server_name(payload: bytes) -> Name | None:
    """Name of the ClientHello at the start of a TCP payload; None when the hello names none.

    Only a hello in one record is read. Raises NotTls, NotHere (the name may be in a later segment) or Malformed (what
    the lengths say cannot be).
    """
    if not payload or payload[0] != 22:
        raise NotTls
    if len(payload) < 6:
        raise NotHere
    if payload[1] != 3 or payload[5] != 1:
        raise NotTls
    if len(payload) < 44:
        raise NotHere
    record, body = int.from_bytes(payload[3:5], "big"), int.from_bytes(payload[6:9], "big")
    if record < 4:
        raise Malformed("a record too short for a message")
    if body + 4 > record:
        raise NotHere
    hello = _Hello(payload, 43, 9 + body)
    for size_of_length in (1, 2, 1):  # session id, cipher suites, compression methods
        hello.skip(hello.number(size_of_length))
    if hello.at == hello.end:
        return None
    extensions = hello.number(2)
    if hello.at + extensions > hello.end:
        raise Malformed("extensions beyond the hello")
    hello.end = hello.at + extensions
    for _ in range(MAX_EXTENSIONS):
        if hello.at == hello.end:
            return None
        kind, size = hello.numbers(2, 2)
        if hello.at + size > hello.end:
            raise Malformed("extension beyond the extensions")
        if kind == 0:
            return _server_name_extension(hello, size)
        hello.skip(size)
    raise NotHere


@dataclass
class _Hello:
    """A ClientHello of which `data` may hold only the beginning; `end` is where it ends, or its extensions do."""

    data: bytes
    at: int
    end: int

    def numbers(self, *sizes: int) -> list[int]:
        """Numbers that follow each other; Malformed beyond `end`, NotHere beyond the data."""
        if self.at + sum(sizes) > self.end:
            raise Malformed("hello ends too early")
        if self.at + sum(sizes) > len(self.data):
            raise NotHere
        found = []
        for size in sizes:
            found.append(int.from_bytes(self.data[self.at : self.at + size], "big"))
            self.at += size
        return found

    def number(self, size: int) -> int:
        return self.numbers(size)[0]

    def skip(self, size: int) -> None:
        self.at += size


def _server_name_extension(hello: _Hello, size: int) -> Name:
    if size < 5:
        raise Malformed("server name extension too short")
    _, kind, length = hello.numbers(2, 1, 2)
    if kind != 0 or length == 0 or length > 255 or length + 5 > size:
        raise Malformed("server name impossible")
    if hello.at + length > len(hello.data):
        raise NotHere
    name = _lower(hello.data[hello.at : hello.at + length])
    return name.removesuffix(b".").replace(b".", b"\0")
