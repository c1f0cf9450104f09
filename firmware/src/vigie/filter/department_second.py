"""The envelope around an order, verified once more in the filter when the order needs the offline second signature.

The link's word is not enough for that: whoever owns its process would lift every limit with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vigie.contract.dsse import DESIRED_TYPE, ENVELOPE_MAX, Envelope
from vigie.contract.errors import ContractError
from vigie.contract.identity import BOX_ID
from vigie.contract.trust import FILE_MAX, SteeringKeys
from vigie.contract.words import Code
from vigie.errors import HostError
from vigie.filter.department import OrderError
from vigie.host.files import read_json, read_small

STEERING: Final = "steering.json"
_BOX_FILE: Final = Path("enrol", "current", "box.json")


def opened(envelope: bytes, trust: Path) -> tuple[bytes, bool]:
    """The payload of an envelope, and whether enough offline keys signed it. OrderError.

    The online signature is the link's to check: an order that only it would vouch for may do no more than one
    without an envelope. Offline keys are those of the image: a file that another service writes could not replace
    them.
    """
    if len(envelope) > ENVELOPE_MAX:
        raise OrderError(Code.TOO_LARGE, f"an envelope of {len(envelope)} bytes")
    try:
        data = read_small(trust / STEERING, FILE_MAX)
        if data is None:
            raise OrderError(Code.SIGNATURE, f"{trust / STEERING} is missing: no signature can be checked")
        parsed = Envelope.from_bytes(envelope)
        if parsed.payload_type != DESIRED_TYPE:
            raise OrderError(Code.SIGNATURE, f"`{parsed.payload_type[:60]}` is no desired state")
        return parsed.payload, SteeringKeys.from_bytes(data).second_signed(parsed)
    except (ContractError, HostError) as e:
        raise OrderError(Code.SIGNATURE, str(e)) from e


def box_id(box_state: Path) -> str:
    """This box's id, "" before it is enrolled."""
    try:
        found = (read_json(box_state / _BOX_FILE) or {}).get("box_id")
    except HostError:
        return ""
    return found if isinstance(found, str) and re.fullmatch(BOX_ID, found) else ""
