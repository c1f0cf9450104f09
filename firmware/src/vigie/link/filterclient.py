"""The filter's socket, from the link's loop. A call may block (an order may rebuild the base): each has a thread."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final, Protocol

from vigie.contract.words import Code, Kind
from vigie.errors import UsageError
from vigie.filter import client
from vigie.link.orders import Order, Refused

_CODED: Final = re.compile(r"\[([a-z-]+)\] ?(.*)", re.DOTALL)


class FilterPort(Protocol):
    """What the link asks of the filter. Every method raises DaemonError when the filter is not there."""

    async def status(self) -> dict[str, Any]:
        """As `vigie filter status`."""

    async def outbox(self, limit: int, above: int | None = None) -> list[dict[str, Any]]:
        """Oldest rows; with `above`, only rows that came after that row id."""

    async def outbox_stats(self) -> dict[str, Any]:
        """Figures."""

    async def outbox_received(self, boot: str, upto: int) -> None:
        """Rows that the department has."""

    async def outbox_add(self, kind: Kind, body: dict[str, Any]) -> None:
        """A row of the link's own."""

    async def department(self, order: Order) -> dict[str, Any]:
        """Puts an order into force. Refused when the filter refuses the whole of it."""

    async def department_show(self) -> dict[str, Any]:
        """What is in force."""

    async def self_test(self) -> dict[str, Any]:
        """Runs the self-test."""


class FilterClient:
    """The real one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def _call(self, op: str, **params: Any) -> dict[str, Any]:
        return await asyncio.to_thread(client.call, self._path, op, **params)

    async def status(self) -> dict[str, Any]:
        """See FilterPort."""
        return await self._call("status")

    async def outbox(self, limit: int, above: int | None = None) -> list[dict[str, Any]]:
        """See FilterPort."""
        extra = {} if above is None else {"above": above}
        rows = (await self._call("outbox", limit=limit, **extra)).get("rows", [])
        return [row for row in rows if isinstance(row, dict)]

    async def outbox_stats(self) -> dict[str, Any]:
        """See FilterPort."""
        return await self._call("outbox-stats")

    async def outbox_received(self, boot: str, upto: int) -> None:
        """See FilterPort."""
        await self._call("outbox-received", boot=boot, upto=upto)

    async def outbox_add(self, kind: Kind, body: dict[str, Any]) -> None:
        """See FilterPort."""
        await self._call("outbox-add", kind=kind.value, body=body)

    async def department(self, order: Order) -> dict[str, Any]:
        """See FilterPort. The envelope goes only when offline keys signed too: the filter counts them itself."""
        what = {"envelope": order.envelope.decode()} if order.second_signed else {"policy": order.policy}
        try:
            return await self._call("department", **what)
        except UsageError as e:
            raise refusal(str(e), order.version) from e

    async def department_show(self) -> dict[str, Any]:
        """See FilterPort."""
        return await self._call("department-show")

    async def self_test(self) -> dict[str, Any]:
        """See FilterPort."""
        return await self._call("self-test")


def refusal(message: str, version: int) -> Refused:
    """The filter's word for why it refuses an order: its message begins with `[code] `."""
    match = _CODED.fullmatch(message)
    if match and match[1] in tuple(Code):
        return Refused(Code(match[1]), match[2], version=version)
    return Refused(Code.FILTER_REFUSED, message, version=version)
