"""What is the link's alone, and what the link may do at all.

The socket's group may speak to the filter. With `link_user` configured, some operations are for this user only, and for
root and the daemon's own user: whoever serves web pages to the mairie has no business with its reports. And this user
may do nothing else: it talks to the internet, so it neither reads the journal nor decides anything for the commune, and
what it reads names no device, no address, no name.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any, Final

from vigie.errors import DaemonError
from vigie.filter.api import PEER, Operation, Params, Stream

LINK_OPERATIONS: Final = frozenset(
    {"outbox", "outbox-received", "outbox-add", "outbox-stats", "department", "department-show", "status", "self-test"}
)
# Of the status: figures and states. Lists are told by their length.
_FIGURES: Final = frozenset(
    {"uptime_s", "base", "candidate", "boot", "ports", "inbound", "isolation", "counters", "hold", "journal", "outbox",
     "problems"}
)  # fmt: skip
_COUNTED: Final = frozenset({"rules", "quarantine"})


def only(user: str, operations: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """The operations, for `user` alone; for the whole group when it is empty."""
    return {name: _guarded(user, name, operation) for name, operation in operations.items()} if user else operations


def _guarded(user: str, name: str, operation: Operation) -> Operation:
    async def guarded(params: Params) -> dict[str, Any]:
        if not may(user, PEER.get(-1)):
            raise DaemonError(f"`{name}` is for root and for {user} (link_user in the configuration)")
        return await operation(params)

    return guarded


def may(user: str, uid: int) -> bool:
    """Whether a user may do what is the link's. An unknown user name opens nothing."""
    if uid in (0, os.geteuid()):
        return True
    try:
        return pwd.getpwnam(user).pw_uid == uid
    except KeyError:
        return False


def confined(user: str, operations: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """The operations, of which `user` may do only the link's own."""
    return {name: _narrowed(user, name, operation) for name, operation in operations.items()} if user else operations


def confined_streams(user: str, streams: Mapping[str, Stream]) -> Mapping[str, Stream]:
    """The streams, of which `user` gets none."""

    def narrowed(name: str, stream: Stream) -> Stream:
        def guarded(params: Params) -> Any:
            if _is_link(user):
                raise _not_for(user, name)
            return stream(params)

        return guarded

    return {name: narrowed(name, stream) for name, stream in streams.items()} if user else streams


def _narrowed(user: str, name: str, operation: Operation) -> Operation:
    async def guarded(params: Params) -> dict[str, Any]:
        if not _is_link(user):
            return await operation(params)
        if name not in LINK_OPERATIONS:
            raise _not_for(user, name)
        answer = await operation(params)
        if name == "status":
            return reduced_status(answer)
        return reduced_orders(answer) if name.startswith("department") else answer

    return guarded


def _is_link(user: str) -> bool:
    uid = PEER.get(-1)
    return uid not in (0, os.geteuid()) and may(user, uid)


def _not_for(user: str, name: str) -> DaemonError:
    return DaemonError(f"`{name}` is not for {user} (link_user in the configuration)")


def reduced_status(status: dict[str, Any]) -> dict[str, Any]:
    """The status as whoever speaks to the department may see it."""
    found = {key: value for key, value in status.items() if key in _FIGURES}
    found |= {key: [{}] * len(value) for key, value in status.items() if key in _COUNTED}
    if "department" in status:
        found["department"] = reduced_orders(status["department"])
    return found


def reduced_orders(shown: dict[str, Any]) -> dict[str, Any]:
    """The orders without the devices that their pseudonyms mean."""
    found = {key: value for key, value in shown.items() if key != "rules"}
    if "quarantine" in found:
        found["quarantine"] = [{"left_s": one["left_s"]} for one in found["quarantine"]]
    return found
