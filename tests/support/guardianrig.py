"""The guardian as it runs on a box: the unix port of MicroPython in a network namespace of its own.

Interfaces, packets and processors are the kernel's. What a test machine does not have is a file or a FIFO at the place
where the kernel would put it: the watchdog (whoever reads the FIFO sees it being fed), the LEDs, the button's events.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.netns import Namespace, Process, Result, World
from tests.support.micropython import GUARDIAN, ROOT, unix_port

HEAP = "heapsize=768k"
KEY = 88
EV_KEY = 1
DEADLINE_S = 60.0


class Rig:
    """One box of the guardian's. `config` may be changed until `start`."""

    def __init__(self, world: World, box: Namespace) -> None:
        self.world, self.box = world, box
        self.folder = world.temp / "guardian"
        for name in ("run", "data", "sys/class/leds", "sys/class/input", "sys/class/watchdog/watchdog0", "input"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "sys/class/net").symlink_to("/sys/class/net")
        (self.folder / "sys/devices").symlink_to("/sys/devices")
        self.bootstatus = self.folder / "sys/class/watchdog/watchdog0/bootstatus"
        self.bootstatus.write_text("0\n")
        self.boot_id = self.folder / "boot_id"
        self.boot_id.write_text("boot-1\n")
        self.config: dict[str, Any] = {
            "watchdog": str(self.folder / "watchdog0"), "sysfs": str(self.folder / "sys"), "tick_ms": 100,
            "input": str(self.folder / "input"), "boot_id": str(self.boot_id), "pstore": "", "run": str(self.run_dir),
            "heartbeat": str(self.folder / "heartbeat.json"), "enrol": str(self.folder / "enrol.json"),
            "update": str(self.folder / "update.json"), "pin_wanted": str(self.folder / "pin-wanted"),
            "lamp_test": str(self.folder / "lamp-test"), "early": str(self.folder / "early.json"),
            "state": str(self.state), "quiet_max_s": 2, "beat_lost_s": 3,
            "bridge_gone_s": 300,
        }  # fmt: skip
        self.watchdog: int | None = None
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(self.folder / "notify"))
        self.notices.setblocking(False)
        world.environment["NOTIFY_SOCKET"] = str(self.folder / "notify")
        self.process: Process | None = None
        self.starts = 0

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def state(self) -> Path:
        return self.folder / "data"

    def argv(self, command: str) -> list[str]:
        """The guardian's command line; /sys is that of the namespace."""
        file = self.folder / "guardian.json"
        if not file.exists() or json.loads(file.read_text() or "0") != self.config:
            file.write_text(json.dumps(self.config))
        enter = ["unshare", "--mount", "--", "sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"]
        return [*enter, *unix_port(), "-X", HEAP, str(GUARDIAN / "main.py"), command, str(file)]

    def do(self, command: str) -> Result:
        """One of the short commands, to its end."""
        return self.box.run(*self.argv(command)).require()

    def plug_watchdog(self) -> None:
        """The device is there from now on."""
        path = self.folder / "watchdog0"
        os.mkfifo(path)
        self.watchdog = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def start(self, wait: bool = True) -> Process:
        """The guardian, until it said that it is ready."""
        self.starts += 1
        self.process = self.box.start(f"guardian{self.starts}", *self.argv("run"))
        if wait:
            self.ticks(1)
        return self.process

    # -- what it does --------------------------------------------------------------------------

    def told(self) -> list[str]:
        """What it told systemd since the last call."""
        found = []
        while True:
            try:
                found.append(self.notices.recv(4096).decode())
            except BlockingIOError:
                return found

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Waits, with the evidence when it does not come."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            if time.monotonic() > deadline:
                log = self.process.tail() if self.process else ""
                raise AssertionError(f"never: {what}\nstatus: {self.status()}\n{log}")
            time.sleep(0.02)

    def ticks(self, count: int) -> None:
        """Until it has gone round this often from now."""
        self.told()
        seen = 0

        def enough() -> bool:
            nonlocal seen
            seen += self.told().count("WATCHDOG=1")
            return seen >= count

        self.until(enough, f"{count} rounds")

    def fed(self) -> bytes:
        """What was written to the watchdog since the last call."""
        assert self.watchdog is not None
        try:
            return os.read(self.watchdog, 65536)
        except BlockingIOError:
            return b""

    def status(self) -> dict[str, Any]:
        """status.json as it is now."""
        path = self.run_dir / "status.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def lamp(self, name: str) -> str:
        """The state that a lamp shows."""
        return str(self.status()["lamps"][name]["state"])

    def becomes(self, key: str, value: object) -> None:
        """Until status.json says so."""
        self.until(lambda: self.status().get(key) == value, f"{key} = {value!r}")

    def shows(self, lamp: str, state: str) -> None:
        """Until the lamp shows that."""
        self.until(lambda: self.status() and self.lamp(lamp) == state, f"lamp {lamp} = {state}")

    def written(self) -> dict[str, Any]:
        """The state on disk."""
        found: dict[str, Any] = json.loads((self.state / "state.json").read_text())
        return found

    # -- what happens to it --------------------------------------------------------------------

    def beat(self, at: float, **more: object) -> None:
        """The filter's heartbeat."""
        fresh = self.folder / "heartbeat.new"
        fresh.write_text(json.dumps({"at": at, "base": 5, "attached": True, "loop": False} | more))
        fresh.rename(self.folder / "heartbeat.json")

    def led(self, name: str) -> Path:
        """A LED appears; its brightness file."""
        folder = self.folder / "sys/class/leds" / name
        folder.mkdir()
        (folder / "trigger").write_text("[heartbeat] none")
        (folder / "max_brightness").write_text("255\n")
        (folder / "brightness").write_text("7\n")
        return folder / "brightness"

    def key_device(self) -> int:
        """The button's device appears; its writing end."""
        place = self.folder / "sys/class/input/event3/device/capabilities"
        if not place.exists():
            place.mkdir(parents=True)
            (place / "key").write_text("1000000 0\n")
            os.mkfifo(self.folder / "input/event3")
        return os.open(self.folder / "input/event3", os.O_RDWR | os.O_NONBLOCK)

    @staticmethod
    def press(device: int, down: bool) -> None:
        """One edge of the key, as the kernel tells it."""
        os.write(device, struct.pack("llHHi", 0, 0, EV_KEY, KEY, int(down)) + struct.pack("llHHi", 0, 0, 0, 0, 0))

    def reset(self, *, by_watchdog: bool) -> Result:
        """The box starts again: the guardian is gone, the kernel has another boot id; then the judge."""
        if self.process is not None and self.process.running:
            self.process.kill()
        self.boot_id.write_text(f"boot-{int(self.boot_id.read_text().split('-')[1]) + 1}\n")
        self.bootstatus.write_text("32\n" if by_watchdog else "0\n")
        return self.do("judge")


@contextmanager
def rig(python: str) -> Iterator[Rig]:
    """A box with a watchdog, nothing else."""
    with World(python, ROOT) as world:
        made = Rig(world, world.namespace("box"))
        made.plug_watchdog()
        try:
            yield made
        finally:
            made.notices.close()
            if made.watchdog is not None:
                os.close(made.watchdog)
