"""DNS messages: a thin, tolerant layer over dnspython.

Unicast DNS and mDNS alike. The data path hands messages cut at 512 bytes, so a message that ends early is not an error:
`partial` is set and what was whole is kept. Only a message without a readable header and question raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import dns.rdatatype

from vigie.errors import DecodeError

MESSAGE_MAX: Final = 65_535
RECORDS_MAX: Final = 256
"""Records kept of one message."""
TEXT_MAX: Final = 512
"""Characters kept of one record's text."""
_PLAIN: Final = re.compile(rb"[a-z0-9_.-]*\Z")


class DnsError(DecodeError):
    """Not a DNS message, or not even its question can be read."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: owner name, type as text ("A", "CNAME", "TYPE65535"), TTL in seconds, data as text.

    Names (owner, and data of CNAME, NS, PTR) are lower case without the final dot. SRV: only the target.
    """

    name: str
    type: str
    ttl: int
    value: str


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A message. `name`, `qtype`: the first question, or empty when there is none (mDNS answers).

    `extended`: RFC 8914 errors as (code, text). `udp_size` is 0 without EDNS.
    """

    id: int
    response: bool
    opcode: int
    rcode: int
    truncated: bool
    recursion_desired: bool
    question_count: int
    name: str
    qtype: str
    answers: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    udp_size: int = 0
    extended: tuple[tuple[int, str], ...] = ()
    partial: bool = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(address, TTL) of the A and AAAA answers."""
        return tuple((record.value, record.ttl) for record in self.answers if record.type in ("A", "AAAA"))


def name_text(name: dns.name.Name) -> str:
    """Lower case, no final dot; bytes outside printable ASCII escaped as in zone files. The root is the empty text."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def decode(data: bytes) -> DnsMessage:
    """Read a message as UDP carries it. Raises DnsError."""
    if not 12 <= len(data) <= MESSAGE_MAX:
        raise DnsError(f"DNS: {len(data)} bytes; a message has 12 to {MESSAGE_MAX}")
    try:
        message = dns.message.from_wire(data, ignore_trailing=True, continue_on_error=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError, IndexError, UnicodeError) as error:
        raise DnsError(f"DNS: {type(error).__name__}: {error}") from error
    count = int.from_bytes(data[4:6], "big")
    if count and not message.question:
        raise DnsError("DNS: the question cannot be read")
    question = message.question[0] if message.question else None
    return DnsMessage(
        id=message.id,
        response=bool(message.flags & dns.flags.QR),
        opcode=int(message.opcode()),
        rcode=int(message.rcode()),
        truncated=bool(message.flags & dns.flags.TC),
        recursion_desired=bool(message.flags & dns.flags.RD),
        question_count=count,
        name="" if question is None else name_text(question.name),
        qtype="" if question is None else dns.rdatatype.to_text(question.rdtype),
        answers=_records(message.answer),
        additional=_records(message.additional),
        udp_size=message.payload if message.edns >= 0 else 0,
        extended=tuple((int(o.code), o.text or "") for o in message.options if isinstance(o, dns.edns.EDEOption)),
        partial=bool(message.errors),
    )


def question_name(data: bytes) -> str | None:
    """Name of the first question, in a few microseconds, as `decode` would give it; None when it cannot be read.

    For counting and for the journal, where a whole decoding of every message would cost more than the filter itself.
    """
    if len(data) < 17 or not (data[4] or data[5]):
        return None
    labels: list[bytes] = []
    at = 12
    while at < len(data) and at < 12 + 255:
        length = data[at]
        if length == 0:
            name = b".".join(labels).lower()
            # What zone files escape is left to dnspython, so that both ways spell a name the same.
            plain = _PLAIN.match(name) and name.count(b".") <= len(labels) - 1
            return name.decode("ascii") if plain else _escaped(labels)
        # The first name of a message has nothing before it to point to.
        if length > 63:
            return None
        labels.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    return None


def _escaped(labels: list[bytes]) -> str:
    return name_text(dns.name.Name([*labels, b""]))


def decode_tcp(data: bytes) -> DnsMessage:
    """Read the first message of a DNS-over-TCP stream: two bytes of length, then the message, perhaps cut."""
    if len(data) < 2:
        raise DnsError("DNS over TCP: the length is missing")
    return decode(data[2 : 2 + int.from_bytes(data[:2], "big")])


def _records(section: list[dns.rrset.RRset]) -> tuple[Record, ...]:
    found: list[Record] = []
    for rrset in section:
        owner = name_text(rrset.name)
        kind = dns.rdatatype.to_text(rrset.rdtype)
        for data in rrset:
            if len(found) == RECORDS_MAX:
                return tuple(found)
            target = getattr(data, "target", None)
            value = name_text(target) if isinstance(target, dns.name.Name) else data.to_text()[:TEXT_MAX]
            found.append(Record(owner, kind, rrset.ttl, value))
    return tuple(found)
