"""Operations that are the link's alone: whoever serves web pages to the mairie has no business with its reports.

The socket's group may speak to the filter. With `link_user` configured, some operations are for this user only, and for
root and the daemon's own user.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

from vigie.errors import DaemonError
from vigie.filter.api import PEER, Operation, Params


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
