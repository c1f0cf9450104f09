"""Mass orders on their way to the keyholders and back: one DSSE envelope per line, one line per box.

The console writes the file (payloads without signatures), two keyholders sign it away from any network, the console
gives each envelope to the signer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from vigie.contract import dsse
from vigie.contract.downward import Desired
from vigie.contract.errors import ContractError
from vigie_department.signer.errors import SignerError
from vigie_department.signer.offline import Keyholder

ORDERS_MAX = 20_000
FILE_MAX = ORDERS_MAX * dsse.ENVELOPE_MAX // 8


class OrderFileError(SignerError):
    """A file of orders holds something else than desired states."""


def read(data: bytes) -> list[dsse.Envelope]:
    """The envelopes of a file. OrderFileError names the line."""
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            envelope = dsse.Envelope.from_bytes(line)
            if envelope.payload_type != dsse.DESIRED_TYPE:
                raise OrderFileError(f"line {number}: {envelope.payload_type} where {dsse.DESIRED_TYPE} is expected")
            Desired.from_bytes(envelope.payload)
        except ContractError as e:
            raise OrderFileError(f"line {number}: not an order for a box ({e})") from e
        found.append(envelope)
        if len(found) > ORDERS_MAX:
            raise OrderFileError(f"more than {ORDERS_MAX} orders in one file")
    if not found:
        raise OrderFileError("no order in the file")
    return found


def write(envelopes: Iterable[dsse.Envelope]) -> bytes:
    """The file."""
    return b"".join(envelope.to_bytes() + b"\n" for envelope in envelopes)


def describe(envelopes: Iterable[dsse.Envelope]) -> Counter[str]:
    """What is ordered, in words of the documents themselves -> number of boxes."""
    found: Counter[str] = Counter()
    for envelope in envelopes:
        order = Desired.from_bytes(envelope.payload)
        words = []
        if order.isolation is not None:
            words.append(f"isolation {order.isolation.level} -> {_moment(order.isolation.until)}")
        if order.quarantine:
            until = max(one.until for one in order.quarantine)
            words.append(f"quarantine x{len(order.quarantine)} -> {_moment(until)}")
        found[", ".join(words) or "no isolation, no quarantine"] += 1
    return found


def signed(envelopes: Iterable[dsse.Envelope], holders: Iterable[Keyholder]) -> list[dsse.Envelope]:
    """With the keyholders' signatures added."""
    keys = [holder.key for holder in holders]
    found = []
    for envelope in envelopes:
        for key in keys:
            envelope = dsse.add_signature(envelope, key)
        found.append(envelope)
    return found


def _moment(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"
