"""RAUC over D-Bus: install what the descriptor names, call the running slot good or bad. RAUC alone writes slots.

`require-manifest-hash` makes RAUC itself refuse a bundle that is not the signed descriptor's. A RAUC before 1.14 does
not know it and says so: then the bundle is inspected first, and what was installed is looked at again afterwards (slot
status), before anything restarts into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from vigie.contract.firmware import UpdateCode
from vigie.errors import VigieError

NAME: Final = "de.pengutronix.rauc"
PATH: Final = "/"
INTERFACE: Final = "de.pengutronix.rauc.Installer"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
CALL_S: Final = 60.0
"""RAUC answers a call at once, after it was started for it."""
STALL_S: Final = 1800.0
"""An installation without progress for so long is given up: RAUC goes on, and is waited for next time."""
TURN_S: Final = 5.0
_UNKNOWN_OPTION: Final = "require-manifest-hash"

T = TypeVar("T")


class RaucError(VigieError):
    """RAUC is not there, or did not do it. code: for the report; passing: the release is not to blame."""

    def __init__(self, code: UpdateCode, passing: bool, detail: str) -> None:
        self.code = code
        self.passing = passing
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bundle: where it is, the digest of its manifest (hex), the root certificates that its server must chain to."""

    url: str
    manifest: str
    roots: Path


@dataclass(frozen=True, slots=True)
class Progress:
    """percent: of the whole installation; text: RAUC's own, English."""

    percent: int
    text: str


# What RAUC says last when it fails (1.8 to 1.15): the first row that matches. Some texts are of curl or OpenSSL.
_REASONS: Final[tuple[tuple[re.Pattern[str], UpdateCode, bool], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), code, passing)
    for pattern, code, passing in (
        (r"manifest.?hash", UpdateCode.MISMATCH, False),
        (r"no space left|not enough space|insufficient space", UpdateCode.NO_SPACE, True),
        (r"not compatible|compatible .*(not match|mismatch)|does not match.*compatible", UpdateCode.OTHER_BOARD, False),
        (r"resolve host|connect to|timed? ?out|unreachable|connection|HTTP response|network|nbd.*(closed|died|exited)",
         UpdateCode.NO_NETWORK, True),
        (r"SSL|TLS|peer certificate", UpdateCode.NO_NETWORK, True),
        (r"signature size|too small|truncated|unexpected end|short read|range", UpdateCode.TRUNCATED, False),
        (r"signature|certificate|CMS|verify.*bundle|not a rauc bundle|no signature|purpose",
         UpdateCode.BAD_SIGNATURE, False),
        (r"already processing", UpdateCode.INSTALL, True),
    )
)  # fmt: skip


def reason(text: str) -> tuple[UpdateCode, bool]:
    """What an error text of RAUC stands for, and whether it may pass by itself."""
    for pattern, code, passing in _REASONS:
        if pattern.search(text):
            return code, passing
    return UpdateCode.INSTALL, False


class Rauc:
    """RAUC's installer service. address: of another bus than the system's. turn: called every few seconds of a long
    call; may raise to give up. Each method opens its own connection: they are hours apart."""

    def __init__(self, turn: Callable[[], None] = lambda: None, address: str | None = None) -> None:
        self._turn = turn
        self._address = address

    def install(self, wanted: Wanted, progress: Callable[[Progress], None]) -> None:
        """Returns when the other slot is written. RaucError."""
        self._run(lambda bus: _Install(bus, wanted, progress, self._turn).run())

    def mark(self, state: str, slot: str) -> str:
        """`good` or `bad` of `booted` or `other`; RAUC's own words. RaucError."""
        answer = self._run(lambda bus: _call(bus, INTERFACE, "Mark", "ss", [state, slot]))
        return str(answer[1])

    def _run(self, work: Callable[[MessageBus], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(self._connected(work))

    async def _connected(self, work: Callable[[MessageBus], Coroutine[Any, Any, T]]) -> T:
        try:
            bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)
            await asyncio.wait_for(bus.connect(), CALL_S)
        except (OSError, TimeoutError, DBusError, ValueError, EOFError) as e:
            raise RaucError(UpdateCode.INSTALL, True, f"D-Bus: cannot be reached ({e})") from e
        try:
            return await work(bus)
        finally:
            bus.disconnect()


async def _call(bus: MessageBus, interface: str, member: str, signature: str, body: list[Any]) -> list[Any]:
    """The body of the answer. RaucError."""
    message = Message(
        destination=NAME, path=PATH, interface=interface, member=member, signature=signature, body=body
    )  # fmt: skip
    try:
        answer = await asyncio.wait_for(bus.call(message), CALL_S)
    except (TimeoutError, OSError, EOFError) as e:
        raise RaucError(UpdateCode.INSTALL, True, f"RAUC: no answer to {member} ({type(e).__name__})") from e
    if answer.message_type is MessageType.ERROR:
        text = str(answer.body[0]) if answer.body else "no reason given"
        name = answer.error_name or ""
        if name.startswith("org.freedesktop.DBus.Error."):  # the bus: no such service, not allowed, gone
            raise RaucError(UpdateCode.INSTALL, True, f"RAUC: {member}: {text}")
        code, passing = reason(text)
        raise RaucError(code, passing, f"RAUC: {member}: {text}")
    return list(answer.body)


async def _property(bus: MessageBus, name: str) -> Any:
    value = (await _call(bus, PROPERTIES, "Get", "ss", [INTERFACE, name]))[0]
    return value.value if isinstance(value, Variant) else value


class _Install:
    """One installation, from the call to RAUC's `Completed`."""

    def __init__(
        self, bus: MessageBus, wanted: Wanted, progress: Callable[[Progress], None], turn: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._wanted = wanted
        self._progress = progress
        self._turn = turn
        self._moved = asyncio.Event()
        self._result: int | None = None
        self._gone = False
        self._told: Progress | None = None

    async def run(self) -> None:
        await self._listen()
        await self._idle()
        bound = await self._begin()
        await self._finish()
        if not bound:
            await self._check_installed()

    async def _listen(self) -> None:
        for rule in (
            f"type='signal',sender='{NAME}',interface='{INTERFACE}',member='Completed'",
            f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',path='{PATH}'",
            f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'",
        ):
            await self._bus.call(
                Message(
                    destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus", member="AddMatch", signature="s", body=[rule],
                )
            )  # fmt: skip
        self._bus.add_message_handler(self._heard)

    def _heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "Completed" and message.interface == INTERFACE:
            self._result = int(message.body[0])
        elif message.member == "NameOwnerChanged" and message.body[:1] == [NAME] and message.body[2] == "":
            self._gone = True
        elif message.member == "PropertiesChanged" and message.body[0] == INTERFACE:
            value = message.body[1].get("Progress")
            if value is not None:
                self._tell(value.value)
        self._moved.set()

    def _tell(self, value: Any) -> None:
        with contextlib.suppress(TypeError, ValueError, IndexError):
            self._told = Progress(int(value[0]), str(value[1])[:200])

    async def _idle(self) -> None:
        """An installation that an earlier process of ours began goes to its end first."""
        while await _property(self._bus, "Operation") != "idle":
            await self._wait("an earlier installation")
        self._result = None

    async def _begin(self) -> bool:
        """False: this RAUC cannot bind the installation to the digest itself, so it is inspected before and after."""
        access = {"tls-ca": Variant("s", str(self._wanted.roots))} if self._wanted.url.startswith("https:") else {}
        bound = access | {"require-manifest-hash": Variant("s", self._wanted.manifest)}
        try:
            await _call(self._bus, INTERFACE, "InstallBundle", "sa{sv}", [self._wanted.url, bound])
            return True
        except RaucError as e:
            if "unsupported key" not in str(e).lower() or _UNKNOWN_OPTION not in str(e):
                raise
        found = await _call(self._bus, INTERFACE, "InspectBundle", "sa{sv}", [self._wanted.url, access])
        said = found[0].get("manifest-hash")
        if said is None or said.value != self._wanted.manifest:
            raise RaucError(UpdateCode.MISMATCH, False, "RAUC: the bundle is not the one that the descriptor names")
        await _call(self._bus, INTERFACE, "InstallBundle", "sa{sv}", [self._wanted.url, access])
        return False

    async def _finish(self) -> None:
        silent = 0
        while self._result is None:
            if self._gone:
                raise RaucError(UpdateCode.INSTALL, True, "RAUC: its service ended during the installation")
            silent = 0 if await self._wait("the installation") else silent + 1
            if silent > 1:
                raise RaucError(UpdateCode.INSTALL, True, "RAUC: idle, without having said how the installation ended")
            if self._told is not None:
                self._progress(self._told)
                self._told = None
        if self._result != 0:
            text = str(await _property(self._bus, "LastError")) or f"result {self._result}"
            code, passing = reason(text)
            raise RaucError(code, passing, f"RAUC: {text}")

    async def _wait(self, what: str) -> bool:
        """Until RAUC says something; False when it is idle and silent. RaucError after a long silence."""
        loop = asyncio.get_running_loop()
        end = loop.time() + STALL_S
        while loop.time() < end:
            self._turn()
            try:
                await asyncio.wait_for(self._moved.wait(), TURN_S)
                self._moved.clear()
                return True
            except TimeoutError:
                if self._gone or await _property(self._bus, "Operation") == "idle":
                    return False
        raise RaucError(UpdateCode.NO_NETWORK, True, f"RAUC: {what} makes no progress for {STALL_S:.0f} s")

    async def _check_installed(self) -> None:
        """The digest of what was installed, from RAUC's own record of the slots; another one is called bad at once."""
        slots = (await _call(self._bus, INTERFACE, "GetSlotStatus", "", []))[0]
        hashes = {
            str(slot["bundle.hash"].value) for _name, slot in slots
            if slot.get("state", Variant("s", "")).value == "inactive" and "bundle.hash" in slot
        }  # fmt: skip
        if hashes != {self._wanted.manifest}:
            await _call(self._bus, INTERFACE, "Mark", "ss", ["bad", "other"])
            raise RaucError(UpdateCode.MISMATCH, False, f"RAUC: installed {sorted(hashes)}, not the signed bundle")
