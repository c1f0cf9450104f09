"""The orders on the disk: JSON beside the local policy, for the daemon's user alone (it names devices)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vigie.contract import strictjson
from vigie.contract.downward import Desired
from vigie.contract.errors import ContractError
from vigie.contract.limits import Part
from vigie.contract.words import Code
from vigie.errors import HostError, SourceError, UsageError
from vigie.filter.department import Meter, Orders
from vigie.filter.department_budget import Budget
from vigie.filter.local_policy import canonical_device
from vigie.host.files import read_small, write_atomic

FORMAT: Final = 1
FILE_MAX: Final = 1024 * 1024


class OrdersFileError(SourceError):
    """The file of the department's orders cannot be used."""


def dump(orders: Orders) -> bytes:
    """JSON text of the orders."""
    document = {
        "format": FORMAT,
        "desired": None if orders.desired is None else orders.desired.to_dict(),
        "refused": [[p.what, p.code.value] for p in orders.refused],
        "second": orders.second,
        "isolation_end": orders.isolation_end,
        "quarantine_ends": dict(orders.quarantine_ends),
        "macs": dict(orders.macs),
        "lifted": orders.lifted,
        "lifted_version": orders.lifted_version,
        "lifted_macs": {mac: list(lift) for mac, lift in orders.lifted_macs.items()},
        "meters": {
            who: {"spans": [list(span) for span in m.budget.spans], "reserved": m.reserved, "ended": m.ended}
            for who, m in orders.meters.items()
        },
    }
    return json.dumps(document, ensure_ascii=False).encode()


def parse(data: bytes, where: Path) -> Orders:
    """The orders of a JSON text. Raises OrdersFileError."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise OrdersFileError(where, None, f"format {document['format']}, this version reads {FORMAT}")
        return _orders(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ContractError, UsageError) as e:
        raise OrdersFileError(where, None, f"no orders of a department ({type(e).__name__}: {e})") from e


def _orders(raw: Mapping[str, Any]) -> Orders:
    desired = None if raw["desired"] is None else Desired.from_bytes(strictjson.dumps(raw["desired"]))
    return Orders(
        desired=desired,
        refused=tuple(Part(str(what), Code(code)) for what, code in raw["refused"]),
        second=bool(raw["second"]),
        isolation_end=float(raw["isolation_end"]),
        quarantine_ends={str(p): float(end) for p, end in raw["quarantine_ends"].items()},
        macs={str(p): canonical_device(str(mac)) for p, mac in raw["macs"].items()},
        lifted=float(raw["lifted"]),
        lifted_version=int(raw["lifted_version"]),
        lifted_macs={
            canonical_device(mac): (float(at), int(version)) for mac, (at, version) in raw["lifted_macs"].items()
        },
        meters={str(who): _meter(m) for who, m in raw["meters"].items()},
    )


def _meter(raw: Mapping[str, Any]) -> Meter:
    spans = tuple((float(first), float(last)) for first, last in raw["spans"])
    return Meter(Budget(spans), float(raw["reserved"]), bool(raw["ended"]))


def load(path: Path) -> Orders:
    """The orders kept in `path`; none when there is no file. Raises OrdersFileError."""
    try:
        data = read_small(path, FILE_MAX)
    except HostError as e:
        raise OrdersFileError(path, None, str(e)) from e
    return Orders() if data is None else parse(data, path)


def save(path: Path, orders: Orders) -> None:
    """Keeps the orders. Raises HostError."""
    write_atomic(path, dump(orders), 0o600)
