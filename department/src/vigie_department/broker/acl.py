"""Who may say what to whom, as Mosquitto's access list. Everything that is not written here is refused.

Mosquitto asks a user's own lines first and the patterns after, and the first line that fits decides: a denied box gets
a line of its own that refuses everything, above all others. A subscription is never refused, what it would bring is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from vigie.contract.errors import ContractError
from vigie.contract.identity import check_box_id
from vigie.contract.topics import PREFIX
from vigie.contract.words import Kind
from vigie_department.broker.errors import BrokerError
from vigie_department.broker.plan import CONTROL_USER, DEPARTMENT

MAX_DENIED: Final = 100_000
MAX_DENIED_BYTES: Final = 4 << 20

# Each topic by its name, not `up/#`: the broker keeps one retained message per topic for ever, and sets no limit to how
# many a client makes.
_REPORTS: Final = "\n".join(f"pattern write {PREFIX}/%u/up/{kind.value}" for kind in Kind)
_FIXED: Final = f"""
# The department's ingest: hears what boxes say, publishes orders and announcements, cannot speak as a box.
user {DEPARTMENT}
topic read {PREFIX}/+/up/#
topic write {PREFIX}/+/down/#
topic write {PREFIX}/ring/+/down/#

# The broker's own user, on its control socket: may listen to what boxes report, to find out why one is not understood.
user {CONTROL_USER}
topic read {PREFIX}/+/up/#

# Every box, by the name in its certificate (%u).
{_REPORTS}
pattern read {PREFIX}/%u/down/#
pattern read {PREFIX}/all/down/#
pattern read {PREFIX}/ring/+/down/#
"""


def access_list(denied: Iterable[str]) -> str:
    """The file. denied: box ids that may neither speak nor hear."""
    lines = ["# Written by `vigie-department broker watch`. Changes made by hand are lost at the next revocation."]
    for box in sorted(set(denied)):
        lines += [f"user {check_box_id(box)}", "topic deny #"]
    return "\n".join(lines) + "\n" + _FIXED


def denied_of(text: str) -> frozenset[str]:
    """The boxes that an access list written by `access_list` denies."""
    users = (line.removeprefix("user ") for line in text.splitlines() if line.startswith("user "))
    return frozenset(user for user in users if user not in (DEPARTMENT, CONTROL_USER))


def parse_denied(data: bytes) -> frozenset[str]:
    """Boxes of the authority's `denied.json`: {"v":1,"boxes":["vg-...", ...]}. BrokerError when it is anything else."""
    if len(data) > MAX_DENIED_BYTES:
        raise BrokerError(f"list of denied boxes: more than {MAX_DENIED_BYTES} bytes")
    try:
        found: Any = json.loads(data)
        if not isinstance(found, dict) or found.get("v") != 1 or not isinstance(found.get("boxes"), list):
            raise BrokerError('list of denied boxes: {"v":1,"boxes":[...]} is expected')
        boxes = [check_box_id(box if isinstance(box, str) else repr(box)) for box in found["boxes"]]
    except (ValueError, RecursionError, ContractError) as error:
        raise BrokerError(f"list of denied boxes: {error}") from error
    if len(boxes) > MAX_DENIED:
        raise BrokerError(f"list of denied boxes: {len(boxes)} is more than {MAX_DENIED}")
    return frozenset(boxes)
