"""A virtual board under QEMU: power, console, shell, QMP. Knows nothing of the lab.

The disk is a raw file of its own for each board, so that a test can cut the power, look at it and spoil it.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.errors import VmError
from vm.tools import run

UBOOT = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
MEMORY_MIB = 1024
DISK_BYTES = 4 << 30
MACS = ("d8:3a:dd:00:00:02", "d8:3a:dd:00:00:03")
"""of the two ports, in the order in which the box finds them"""
MARK = "\x1e"
LATE = re.compile(rf"\A.*{MARK}\w+ \d+\n", re.DOTALL)
SHELL_S = 300.0
"""how long an answer may take before the board counts as hung: an emulated one on a busy machine is slow"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a command inside the board: exit code, what it said on both channels."""

    command: str
    code: int
    out: str

    @property
    def evidence(self) -> str:
        return f"[board] # {self.command}\n{self.out.strip()}\n    -> exit {self.code}"

    def require(self) -> Answer:
        if self.code != 0:
            raise AssertionError(self.evidence)
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.require().out)


class Shell:
    """Root's shell over the virtio port (vm/overlay), one command at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._pending = b""
        self._number = 0

    def close(self) -> None:
        self._socket.close()

    def wait_ready(self, seconds: float) -> None:
        """Until the board's side says so after a start."""
        self._read_until(f"{MARK}ready 0\n".encode(), seconds)

    def __call__(self, command: str, timeout: float = SHELL_S) -> Answer:
        if "\n" in command:
            raise VmError(f"a command is one line: {command!r}")
        self._number += 1
        mark = f"{MARK}{self._number} "
        self._socket.sendall(f"{self._number} {command}\n".encode())
        out = self._read_until(mark.encode(), timeout)
        code = self._read_until(b"\n", timeout)
        # The rest of an answer that nobody waited for comes first.
        return Answer(command, int(code), LATE.sub("", out.decode(errors="replace")))

    def _read_until(self, end: bytes, seconds: float) -> bytes:
        """What comes before `end`, which is eaten."""
        deadline = time.monotonic() + seconds
        while (place := self._pending.find(end)) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the board did not answer within {seconds} s; so far: {self._pending[-500:]!r}")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise VmError("the board is gone (its shell closed)")
            self._pending += data
        found, self._pending = self._pending[:place], self._pending[place + len(end) :]
        return found


@dataclass
class Machine:
    """`folder` holds disk.img, console.log and the sockets. nics: QEMU's -netdev arguments of the two ports.

    start: how QEMU is started (the lab starts it in a network namespace); it must die with its caller.
    """

    folder: Path
    nics: Sequence[str]
    start: Callable[[Sequence[str]], subprocess.Popen[bytes]]
    serial: str = "file"
    """where the console goes besides console.log: `file` nowhere, `stdio` to this terminal"""
    qemu: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    """when the power was last switched on (monotonic s)"""
    started_wall: float = 0.0
    """the same by the clock that the board starts with (time.time())"""
    _shell: Shell | None = None
    boots: int = field(default=0)

    # -- disk -----------------------------------------------------------------------------------------------

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    @property
    def console(self) -> str:
        """Everything that the serial console has said since the last start."""
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def make_disk(self, image: Path, size: int = DISK_BYTES) -> None:
        """A board fresh from flashing: the image at the beginning of a larger disk."""
        run(["cp", "--sparse=always", image, self.disk])
        with self.disk.open("r+b") as disk:
            disk.truncate(size)

    # -- power ------------------------------------------------------------------------------------------------

    def argv(self) -> list[str]:
        """QEMU's command line."""
        if not UBOOT.exists():
            raise VmError(f"{UBOOT} is missing: install u-boot-qemu (scripts/packages.txt)")
        log = self.folder / "console.log"
        console = {
            "file": f"file,id=console,path={log}",
            "stdio": f"stdio,id=console,signal=off,mux=on,logfile={log}",
        }[self.serial]
        words = ["qemu-system-aarch64", "-name", "vigie", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2"]
        words += ["-m", str(MEMORY_MIB), "-accel", "tcg,thread=multi", "-bios", str(UBOOT), "-nodefaults"]
        words += ["-display", "none", "-chardev", console, "-serial", "chardev:console"]
        if self.serial == "stdio":
            words += ["-mon", "chardev=console,mode=readline"]
        words += ["-qmp", f"unix:{self.folder / 'qmp.sock'},server=on,wait=off"]
        words += ["-drive", f"file={self.disk},if=none,id=disk,format=raw,cache=writeback,discard=unmap"]
        words += ["-device", "virtio-blk-pci,drive=disk,addr=2"]
        for number, nic in enumerate(self.nics):
            words += ["-netdev", f"{nic},id=port{number}", "-device"]
            words += [
                f"virtio-net-pci,netdev=port{number},id=nic{number},mac={MACS[number]},addr={4 + number},romfile="
            ]
        words += ["-device", "virtio-serial-pci,addr=8"]
        words += ["-chardev", f"socket,id=shell,path={self.folder / 'shell.sock'},server=on,wait=off"]
        words += ["-device", "virtserialport,chardev=shell,name=vigie.shell"]
        words += ["-device", "virtio-rng-pci,addr=9", "-device", "virtio-keyboard-pci,addr=10"]
        words += ["-device", "i6300esb,addr=11", "-action", "watchdog=reset"]
        return words

    def power_on(self) -> None:
        """From switched off; returns at once."""
        if self.running:
            raise VmError("the board is on already")
        for name in ("shell.sock", "qmp.sock"):
            (self.folder / name).unlink(missing_ok=True)
        if self.serial == "file":
            (self.folder / "console.log").write_text("")
        self.started_at, self.started_wall = time.monotonic(), time.time()
        self.qemu = self.start(self.argv())
        self.boots += 1
        self._shell = Shell(self._await(self.folder / "shell.sock"))

    @property
    def running(self) -> bool:
        return self.qemu is not None and self.qemu.poll() is None

    def power_cut(self) -> None:
        """As if unplugged: nothing gets a chance to say goodbye."""
        if self._shell is not None:
            self._shell.close()
            self._shell = None
        if self.qemu is not None:
            with contextlib.suppress(ProcessLookupError):
                self.qemu.kill()
            self.qemu.wait(20)
            self.qemu = None

    def boot(self, seconds: float = 600.0) -> None:
        """Power on, and until the shell answers."""
        self.power_on()
        self.wait_shell(seconds)

    def wait_shell(self, seconds: float = 600.0) -> None:
        """Until the shell of this start, or of the restart that is under way, answers."""
        assert self._shell is not None  # noqa: S101 - power_on() was called
        try:
            self._shell.wait_ready(seconds)
        except (TimeoutError, VmError) as error:
            raise AssertionError(f"the board does not come up: {error}\n{self.tail()}") from error

    # -- talking to it ---------------------------------------------------------------------------------------

    def shell(self, command: str, timeout: float = SHELL_S) -> Answer:
        """One command as root."""
        if self._shell is None:
            raise VmError("the board is off")
        try:
            return self._shell(command, timeout)
        except TimeoutError as error:
            raise AssertionError(f"{command}: {error}\n{self.tail()}") from error

    def wait(self, command: str, seconds: float, pause: float = 1.0) -> Answer:
        """Until the command succeeds; the evidence is its last answer."""
        deadline = time.monotonic() + seconds
        while (answer := self.shell(command)).code != 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s:\n{answer.evidence}\n{self.tail(15)}")
            time.sleep(pause)
        return answer

    def wait_console(self, text: str, seconds: float) -> float:
        """Until the console has said it; seconds since power-on."""
        deadline = time.monotonic() + seconds
        while text not in self.console:
            if time.monotonic() > deadline or not self.running:
                raise AssertionError(f"the console never said {text!r}:\n{self.tail()}")
            time.sleep(0.1)
        return time.monotonic() - self.started_at

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.console.replace("\r", "").splitlines()[-lines:])

    def qmp(self, command: str, **arguments: Any) -> Any:
        """A command of QEMU's machine protocol; its return value."""
        path = self._await(self.folder / "qmp.sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            stream = sock.makefile("rw", encoding="utf-8")
            stream.readline()
            for one in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(one) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
            if "error" in answer:
                raise VmError(f"{command}: {answer['error'].get('desc')}")
            return answer["return"]

    def press(self, key: str, down: bool) -> None:
        """A key of the board's button (QEMU's QKeyCode)."""
        event = {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": key}}}
        self.qmp("input-send-event", events=[event])

    def cable(self, port: int, plugged: bool) -> None:
        """Carrier of one of the ports."""
        self.qmp("set_link", name=f"nic{port}", up=plugged)

    def _await(self, path: Path, seconds: float = 20.0) -> Path:
        deadline = time.monotonic() + seconds
        while not path.exists():
            if not self.running or time.monotonic() > deadline:
                raise VmError(f"QEMU did not make {path.name}; see {self.folder}")
            time.sleep(0.02)
        return path
