"""Doing a command: self-test, diagnostics with the mairie's consent, restart of a service.

A restart is a request: the link has no privileges. It writes `<run>/link/restart/<service>`; a systemd path unit of the
image (`vigie-restart@.path`, PathExists=) restarts the unit `vigie-<service>` and removes the file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vigie.contract.downward import Command
from vigie.contract.upward import Consent, Diagnostic
from vigie.contract.words import Code, Op, Result, Service
from vigie.errors import HostError, VigieError
from vigie.host.files import write_atomic
from vigie.link.filterclient import FilterPort

RESTART_FOLDER: Final = "restart"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command. `diagnostic` goes up beside the answer."""

    result: Result
    code: Code | None = None
    diagnostic: Diagnostic | None = None


class Collector(Protocol):
    """Collects redacted texts."""

    async def __call__(self, wanted: tuple[str, ...]) -> dict[str, str]:
        """Texts by name; all when `wanted` is empty."""


class Consents(Protocol):
    """Knows whether the mairie agreed."""

    def __call__(self) -> Consent | None:
        """The consent that holds now."""


class Executor:
    """Does commands, each at most once (the caller sees to that), one after the other."""

    def __init__(self, filter_port: FilterPort, run: Path, consent: Consents, collect: Collector) -> None:
        self._filter = filter_port
        self._run = run
        self._consent = consent
        self._collect = collect

    async def do(self, command: Command) -> Outcome:
        """Does it; never raises VigieError."""
        try:
            if command.op == Op.SELF_TEST:
                return _tested(await self._filter.self_test())
            if command.op == Op.DIAGNOSTICS:
                return await self._diagnostics(command)
            if command.op == Op.RESTART and command.service is not None:
                return await self._restart(command.service)
        except HostError:
            return Outcome(Result.FAILED, Code.NOT_SAVED)
        except VigieError:
            return Outcome(Result.FAILED, Code.FILTER_DOWN)
        return Outcome(Result.REFUSED, Code.UNKNOWN_OP)

    async def _diagnostics(self, command: Command) -> Outcome:
        consent = self._consent()
        if consent is None:
            return Outcome(Result.REFUSED, Code.NO_CONSENT)
        items = await self._collect(command.items)
        return Outcome(Result.DONE, diagnostic=Diagnostic(command.id, consent, items))

    async def _restart(self, service: Service) -> Outcome:
        await asyncio.to_thread(write_atomic, self._run / RESTART_FOLDER / service.value, b"", 0o644)
        return Outcome(Result.DONE)


def _tested(result: dict[str, Any]) -> Outcome:
    return Outcome(Result.DONE) if result.get("passed") is True else Outcome(Result.FAILED, Code.TEST_FAILED)
