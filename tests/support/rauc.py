"""RAUC's installer service as far as Vigie uses it, on a private bus: real D-Bus, made-up slots."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

NAME = "de.pengutronix.rauc"
INTERFACE = "de.pengutronix.rauc.Installer"
FAILED = "org.gtk.GDBus.UnmappedGError.Quark._g_2dio_2derror_2dquark.Code30"
HASH = "ab" * 32


@dataclass
class Plan:
    """How the service behaves. binds: it knows require-manifest-hash (RAUC 1.14 and later). manifest: of the bundle
    that the server really gives. error: LastError of an installation, "" for one that succeeds. vanishes: it goes away
    in the middle. recorded: digest that the slot status shows, the bundle's by default. busy_s: somebody else's
    installation lasts so long. installed, marked: called when it happens. asked: each call."""

    binds: bool = True
    manifest: str = HASH
    error: str = ""
    vanishes: bool = False
    recorded: str = ""
    busy_s: float = 0.0
    mark_error: str = ""
    installed: Callable[[], None] = lambda: None
    marked: Callable[[str, str], None] = lambda _state, _slot: None
    asked: list[tuple[Any, ...]] = field(default_factory=list)


class Installer:
    """The object `/`. Names and types as in de.pengutronix.rauc.Installer.xml."""

    def __init__(self, bus: MessageBus, plan: Plan) -> None:
        self._bus = bus
        self._plan = plan
        self._values = {"Operation": Variant("s", "idle"), "LastError": Variant("s", ""),
                        "Progress": Variant("(isi)", [0, "", 0])}  # fmt: skip
        self._tasks: set[asyncio.Task[None]] = set()
        bus.add_message_handler(self._called)

    def _called(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.path != "/":
            return None
        answer = getattr(self, f"_{(message.member or '').lower()}", None)
        if answer is None:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", str(message.member))
        try:
            signature, body = answer(*message.body)
        except ValueError as e:
            return Message.new_error(message, FAILED, str(e))
        return Message.new_method_return(message, signature, body)

    def _get(self, _interface: str, name: str) -> tuple[str, list[Any]]:
        return "v", [self._values[name]]

    def _installbundle(self, source: str, args: dict[str, Variant]) -> tuple[str, list[Any]]:
        plain = {name: value.value for name, value in args.items()}
        self._plan.asked.append(("install", source, plain))
        if self._values["Operation"].value != "idle":
            raise ValueError("Already processing a different method")
        known = {"tls-ca"} | ({"require-manifest-hash"} if self._plan.binds else set())
        for name in plain:
            if name not in known:
                raise ValueError(f"Unsupported key: {name}")
        self._set("Operation", Variant("s", "installing"))
        self._start(self._work(plain.get("require-manifest-hash")))
        return "", []

    def _inspectbundle(self, source: str, args: dict[str, Variant]) -> tuple[str, list[Any]]:
        self._plan.asked.append(("inspect", source, {name: value.value for name, value in args.items()}))
        return "a{sv}", [{"manifest-hash": Variant("s", self._plan.manifest)}]

    def _mark(self, state: str, slot: str) -> tuple[str, list[Any]]:
        self._plan.asked.append(("mark", state, slot))
        if self._plan.mark_error:
            raise ValueError(self._plan.mark_error)
        self._plan.marked(state, slot)
        return "ss", ["boot.1", f"marked slot boot.1 as {state}"]

    def _getslotstatus(self) -> tuple[str, list[Any]]:
        recorded = Variant("s", self._plan.recorded or self._plan.manifest)
        return "a(sa{sv})", [
            [
                ["boot.0", {"state": Variant("s", "booted"), "bundle.hash": Variant("s", "00" * 32)}],
                ["rootfs.0", {"state": Variant("s", "active"), "bundle.hash": Variant("s", "00" * 32)}],
                ["boot.1", {"state": Variant("s", "inactive"), "bundle.hash": recorded}],
                ["rootfs.1", {"state": Variant("s", "inactive"), "bundle.hash": recorded}],
            ]
        ]

    def busy(self) -> None:
        """An installation that somebody else began."""
        self._set("Operation", Variant("s", "installing"))
        self._start(self._end_busy())

    async def _end_busy(self) -> None:
        await asyncio.sleep(self._plan.busy_s)
        self._completed(1)

    def end(self) -> None:
        """Nothing goes on after the test."""
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, required: str | None) -> None:
        for percent, text in ((0, "Installing"), (20, "Verifying signature"), (40, "Copying image to boot.1")):
            self._set("Progress", Variant("(isi)", [percent, text, 1]))
            await asyncio.sleep(0.02)
        if self._plan.vanishes:
            self._bus.disconnect()
            return
        error = self._plan.error
        if required is not None and required != self._plan.manifest:
            error = f"Installation error: Manifest hash {self._plan.manifest} does not match the required {required}"
        self._set("LastError", Variant("s", error))
        if not error:
            self._plan.installed()
            self._set("Progress", Variant("(isi)", [100, "Installing done.", 1]))
        self._completed(1 if error else 0)

    def _completed(self, result: int) -> None:
        self._set("Operation", Variant("s", "idle"))
        self._bus.send(Message.new_signal("/", INTERFACE, "Completed", "i", [result]))

    def _set(self, name: str, value: Variant) -> None:
        self._values[name] = value
        body: list[Any] = [INTERFACE, {name: value}, []]
        self._bus.send(
            Message.new_signal("/", "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body)
        )  # fmt: skip


@contextlib.contextmanager
def bus_daemon(config: Path) -> Iterator[str]:
    """A bus of its own with this configuration; its address."""
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert daemon.stdout is not None
    try:
        yield daemon.stdout.readline().strip()
    finally:
        daemon.terminate()
        daemon.wait(10)
        daemon.stdout.close()


@contextlib.contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """dbus-daemon for one test; its address."""
    config = folder / "bus.conf"
    config.write_text(
        "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' "
        "'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n"
        f"<busconfig><type>custom</type><listen>unix:path={folder}/bus.sock</listen>"
        "<auth>EXTERNAL</auth><policy context='default'><allow send_destination='*' eavesdrop='true'/>"
        "<allow eavesdrop='true'/><allow own='*'/></policy></busconfig>\n"
    )
    with bus_daemon(config) as address:
        yield address


@contextlib.contextmanager
def rauc_service(address: str, plan: Plan) -> Iterator[None]:
    """The service on the bus, in a thread of its own, until the context ends."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        bus = await MessageBus(bus_address=address).connect()
        installer = Installer(bus, plan)
        await bus.request_name(NAME)
        if plan.busy_s:
            installer.busy()
        ready.set()
        await over.wait()
        installer.end()
        bus.disconnect()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20), "the service did not come up"
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
        loop.close()
