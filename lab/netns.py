"""Network namespaces as context objects that speak intent: `pc.must_reach("10.0.0.2")`.

A `World` owns everything that one run makes: namespaces (named `vg-<pid>-<label>`), cables (veth pairs, born inside
the namespaces, never in the machine's own), processes, a temporary folder, a bpffs of its own. All of it goes at exit,
at an exception and at an interrupt; what a killed run left behind goes when the next one starts.

Processes enter by `nsenter --net`, not by `ip netns exec`: the latter makes a new mount namespace with another /sys
and so hides any bpffs. The other side of that coin: /sys/class/net still shows the machine's own links; only netlink
tells the truth.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from lab.errors import LabError
from lab.leftovers import PREFIX, RUN_NETNS, TEMP_PREFIX, clean_leftovers, delete_namespace, remove_temp
from lab.reach import Reach

CLONE_NEWNET = 0x40000000
BRIDGE_NF = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")

_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise LabError(f"setns: {os.strerror(number)}: the lab must run as root")


@contextlib.contextmanager
def entered(path: Path) -> Iterator[None]:
    """This thread is inside the namespace while the block runs. Sockets made there stay there."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


@dataclass(frozen=True, slots=True)
class Result:
    """A finished command: what was run, where, what it said, how long it took (s)."""

    where: str
    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def evidence(self) -> str:
        """For assertion messages: the command and its output."""
        said = "\n".join(f"    {line}" for line in (self.out + self.err).strip().splitlines()[-25:])
        return f"[{self.where}] $ {' '.join(self.argv)}\n{said}\n    -> exit {self.code} after {self.seconds:.2f} s"

    def require(self, code: int = 0) -> Result:
        if self.code != code:
            raise AssertionError(f"expected exit {code}:\n{self.evidence}")
        return self


@dataclass(slots=True)
class Process:
    """A long-running command inside a namespace; its output goes to `log`."""

    label: str
    argv: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for_line(self, text: str, seconds: float = 10.0) -> None:
        """Until the log holds `text`; the evidence is the log."""
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text(errors="replace"):
            if not self.running or time.monotonic() > deadline:
                state = "still running" if self.running else f"exit {self.popen.returncode}"
                raise AssertionError(f"{self.label} never said {text!r} ({state}):\n{self.tail()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, to this one process."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self, seconds: float = 5.0) -> int:
        """SIGTERM, then SIGKILL when it does not end in time; returns the exit code."""
        if self.running:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(10)
        return int(self.popen.returncode)


class Namespace(Reach):
    """One machine of the lab."""

    def __init__(self, world: World, label: str) -> None:
        self.world = world
        self.label = label
        self.name = f"{PREFIX}{world.owner}-{label}"
        self.path = RUN_NETNS / self.name
        self.resolv_conf: Path | None = None
        self.binds: dict[str, Path] = {}
        """files and folders that this machine has of its own: place -> what is seen there, in that order"""
        self.links: set[str] = {"lo"}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    # -- entering ---------------------------------------------------------------------------

    def entered(self) -> contextlib.AbstractContextManager[None]:
        return entered(self.path)

    def socket(self, family: int, kind: int, proto: int = 0) -> socket.socket:
        """A socket of this machine, usable from anywhere."""
        with self.entered():
            return socket.socket(family, kind, proto)

    def command(self, argv: Sequence[str]) -> list[str]:
        """argv that enters this namespace, with files of its own when it has any."""
        prefix = ["nsenter", f"--net={self.path}", "--"]
        binds = dict(self.binds)
        if self.resolv_conf is not None:
            binds["/etc/resolv.conf"] = self.resolv_conf
        if binds:
            script = 'while [ "$1" != -- ]; do mount --rbind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"'
            pairs = [word for target, source in binds.items() for word in (str(source), target)]
            prefix += ["unshare", "--mount", "--", "sh", "-c", script, "sh", *pairs, "--"]
        return [*prefix, *argv]

    def run(self, *argv: str, timeout: float = 20.0, stdin: str = "") -> Result:
        """Run to the end; never raises for an exit code (see `Result.require`). A time-out gives exit 124."""
        start = time.monotonic()
        try:
            done = subprocess.run(
                self.command(argv), input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout,
                env=self.world.environment, check=False,
            )  # fmt: skip
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            out = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else ""
            code, err = 124, f"no end after {timeout} s"
        return Result(self.label, argv, code, out, err, time.monotonic() - start)

    def ip(self, *argv: str) -> Result:
        return self.run("ip", *argv).require()

    def start(self, label: str, *argv: str) -> Process:
        """A process that lives until stopped, at most as long as the world."""
        if threading.current_thread() is not threading.main_thread():
            # The parent-death signal follows the thread that forked, not the process.
            raise LabError(f"{label}: start processes from the main thread only")
        log = self.world.temp / f"{self.label}-{label}.log"
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *self.command(argv)]
        with log.open("ab") as sink:
            popen = subprocess.Popen(
                guarded, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
                env=self.world.environment, start_new_session=True,
            )  # fmt: skip
        process = Process(f"{self.label}/{label}", tuple(argv), popen, log)
        self.world.processes.append(process)
        return process

    def python(self, label: str, module: str, *argv: str) -> Process:
        """Start one of the lab's own programs."""
        return self.start(label, self.world.python, "-u", "-m", module, *argv)

    # -- configuration ----------------------------------------------------------------------

    def sysctl(self, key: str, value: int | str) -> None:
        with self.entered():
            (Path("/proc/sys") / key).write_text(f"{value}\n")

    def read_sysctl(self, key: str) -> str:
        with self.entered():
            return (Path("/proc/sys") / key).read_text().strip()

    def bridge(self, name: str, *ports: str) -> None:
        """A Linux bridge that behaves like an unmanaged switch: no snooping, no STP of its own."""
        self.ip("link", "add", "name", name, "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
        self.links.add(name)
        for port in ports:
            self.ip("link", "set", port, "master", name)
        self.ip("link", "set", name, "up")

    def address(self, link: str, *addresses: str) -> None:
        for one in addresses:
            extra = ["nodad"] if ":" in one else []
            self.ip("address", "replace", one, "dev", link, *extra)

    def route(self, *argv: str) -> None:
        family = ["-6"] if any(":" in word for word in argv) else []
        self.ip(*family, "route", "replace", *argv)

    def offload(self, link: str, on: bool) -> None:
        """Checksum and segmentation offload of a veth, as `ethtool -K` sets it."""
        state = "on" if on else "off"
        self.run("ethtool", "-K", link, "tx", state, "rx", state, "tso", state, "gso", state, "gro", "off").require()

    def mac(self, link: str) -> str:
        return str(json.loads(self.ip("-j", "link", "show", "dev", link).out)[0]["address"])

    def ifindex(self, link: str) -> int:
        with self.entered():
            return socket.if_nametoindex(link)

    def show_links(self) -> list[dict[str, Any]]:
        return list(json.loads(self.ip("-j", "-d", "-s", "link", "show").out))


@dataclass
class World:
    """Everything one run makes. Use as a context manager."""

    python: str
    root: Path
    keep: bool = False
    mtu: int = 1500
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A second world of one process is `vg-<pid>.2-...`: tests may hold several.
        number = next(_numbers)
        self.owner = f"{os.getpid()}.{number}" if number > 1 else str(os.getpid())
        self.temp = Path()
        self.bpffs = Path()
        self._machine_links: set[str] = set()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> World:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces and needs root: run it with sudo")
        clean_leftovers()
        self._machine_links = set(machine_links())
        self.temp = Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{self.owner}-"))
        self.temp.chmod(0o755)  # servers that give up root read it
        keep = ("PATH", "LANG", "LC_ALL", "HOME", "VIGIE_DATA", "TERM")
        self.environment = {key: os.environ[key] for key in keep if key in os.environ}
        self.environment |= {"PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temp)}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _no_interrupt():
            for process in reversed(self.processes):
                if process.running:
                    process.popen.terminate()
            for process in reversed(self.processes):
                process.stop(2.0)
            for namespace in self.namespaces.values():
                delete_namespace(namespace.name)
            self.namespaces.clear()
            remove_temp(self.temp, keep=self.keep)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def namespace(self, label: str) -> Namespace:
        """A fresh machine: loopback up, bridge netfilter off, no IPv6 address detection delay."""
        namespace = Namespace(self, label)
        _ip("netns", "add", namespace.name)
        self.namespaces[label] = namespace
        for key in BRIDGE_NF:
            path = f"net/bridge/{key}"
            namespace.sysctl(path, 0)
            if namespace.read_sysctl(path) != "0":
                raise LabError(f"{label}: {key} stays on: bridged traffic would pass through the firewall")
        for place in ("all", "default"):
            namespace.sysctl(f"net/ipv6/conf/{place}/accept_dad", 0)
            namespace.sysctl(f"net/ipv4/conf/{place}/rp_filter", 0)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def cable(self, left: Namespace, left_link: str, right: Namespace, right_link: str, *, up: bool = True) -> None:
        """A veth pair, born with each end in its namespace."""
        _ip(
            "link", "add", "name", left_link, "mtu", str(self.mtu), "netns", left.name, "type", "veth",
            "peer", "name", right_link, "mtu", str(self.mtu), "netns", right.name,
        )  # fmt: skip
        for namespace, link in ((left, left_link), (right, right_link)):
            namespace.links.add(link)
            if up:
                namespace.ip("link", "set", link, "up")

    def move(self, link: str, source: Namespace, target: Namespace, name: str | None = None) -> None:
        """Unplug one end of a cable and carry it to another machine (carrier is lost meanwhile)."""
        new = name or link
        source.ip("link", "set", link, "down")
        source.ip("link", "set", link, "nomaster")
        source.ip("link", "set", link, "netns", target.name, "name", new)
        source.links.discard(link)
        target.links.add(new)

    def mount_bpffs(self) -> Path:
        """A BPF file system of this run's own."""
        self.bpffs = self.temp / "bpf"
        self.bpffs.mkdir()
        _run(["mount", "-t", "bpf", "vigie-lab", str(self.bpffs)])
        return self.bpffs

    def assert_isolated(self) -> None:
        """No cable of the lab ends in the machine's own network, and nothing in the lab has a way out."""
        appeared = {name: link for name, link in machine_links().items() if name not in self._machine_links}
        ours = [name for name in appeared if any(name in namespace.links for namespace in self.namespaces.values())]
        if ours:
            raise AssertionError(f"links of the lab in the machine's own network: {ours}")
        for namespace in self.namespaces.values():
            strangers = {str(link["ifname"]) for link in namespace.show_links()} - namespace.links
            if strangers:
                raise AssertionError(f"[{namespace.label}] holds links the lab did not make: {sorted(strangers)}")


def machine_links() -> dict[str, dict[str, Any]]:
    """Links of the machine's own network."""
    return {str(link["ifname"]): link for link in json.loads(_run(["ip", "-j", "link", "show"]).stdout)}


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """A second Ctrl-C must not stop the clearing up half way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done


def _ip(*argv: str) -> None:
    _run(["ip", *argv])
