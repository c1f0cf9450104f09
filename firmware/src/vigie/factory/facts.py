"""What a start looked like, read and never changed: for `vigie factory report` and the `report` of the serial line.

Nothing here is secret or about anybody: versions, times since the start, names of units.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from vigie.factory.machine import Machine
from vigie.filter import client

Run = Callable[[Sequence[str]], str | None]
_LIST_MOST: Final = 20
_PRINTED_MOST: Final = 1 << 20
_PYTHON: Final = re.compile(r"path=\S*/(python3[.\d]*|vigie)\s")
_KEPT: Final = ("version", "base", "attached", "loop", "at")


def collect(machine: Machine, filter_socket: Path, run: Run | None = None) -> dict[str, Any]:
    """The facts. Times are seconds since the kernel started; None where nothing says.

    run: runs a command and returns what it printed, None when it fails (tests give their own).
    """
    ask = run or command
    release = os_release(machine)
    early = _json(machine.read("run/vigie-early.json")).get("early")
    heartbeat = _json(machine.read("run/vigie/heartbeat.json"))
    enrol = _json(machine.read("data/vigie/enrol/status.json"))
    arguments = kernel_arguments(machine)
    mounts = _mounts(machine)
    failed = ask(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"])
    return {
        "version": release.get("VERSION_ID", ""),
        "variant": release.get("VARIANT_ID", ""),
        "kernel": machine.read("proc/sys/kernel/osrelease"),
        "boot": machine.boot_id(),
        "chip": machine.chip(),
        "uptime_s": _first_number(machine.read("proc/uptime")),
        "slot": arguments.get("rauc.slot", ""),
        "verity": bool(arguments.get("vigie.roothash") or "dm-mod.create" in arguments),
        "root_fs": mounts.get("/", ["", ""])[0],
        "root_ro": "ro" in mounts.get("/", ["", ""])[1].split(","),
        "data_fs": mounts.get("/data", ["", ""])[0],
        "identity_fs": mounts.get("/identity", ["", ""])[0],
        "early": early if isinstance(early, dict) else {},
        "baked_base": _baked_base(machine.root / "usr/share/vigie/base.img"),
        "bridge": _bridge(machine),
        "first_python": _first_python(ask),
        "filter_s": _active_s(ask, "vigie-filter.service"),
        "heartbeat": {name: heartbeat[name] for name in _KEPT if name in heartbeat},
        "enrol": {name: enrol[name] for name in ("code", "since") if name in enrol},
        "ports": [[p.name, p.carrier, p.speed] for p in machine.ports()][:_LIST_MOST],
        "failed_units": _first_words(failed),
        "celsius": _celsius(machine),
        "selftest": _selftest(filter_socket),
    }


def os_release(machine: Machine) -> dict[str, str]:
    """NAME=value of /etc/os-release."""
    found = {}
    for line in (machine.read("etc/os-release") or machine.read("usr/lib/os-release")).splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name] = value.strip("\"'")
    return found


def kernel_arguments(machine: Machine) -> dict[str, str]:
    """Of the kernel's command line."""
    found = {}
    for word in machine.read("proc/cmdline").split():
        name, _equals, value = word.partition("=")
        found[name] = value
    return found


def command(argv: Sequence[str]) -> str | None:
    """What a command printed, None when it cannot be run, fails or takes more than ten seconds."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10)
        return done.stdout[:_PRINTED_MOST] if done.returncode == 0 else None
    return None


def _baked_base(path: Path) -> int | None:
    """Version of the base that came with the image."""
    from vigie.errors import ImageError
    from vigie.filter.base.imageformat import Header

    with (
        contextlib.suppress(OSError, ValueError, ImageError),
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as image,
        memoryview(image) as view,
    ):
        return Header.unpack(view).serial
    return None


def _bridge(machine: Machine) -> dict[str, int]:
    """Port of br0 -> its state (3: forwarding)."""
    folder = machine.root / "sys/class/net/br0/brif"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    states = {name: machine.read(f"sys/class/net/br0/brif/{name}/state") for name in names[:_LIST_MOST]}
    return {name: int(state) for name, state in states.items() if state.isdigit()}


def _first_python(ask: Run) -> list[Any] | None:
    """[seconds since the start, unit] of the first service in Python that was started."""
    properties = "Id,ExecStart,ExecStartPre,ExecMainStartTimestampMonotonic"
    text = ask(["systemctl", "show", "*.service", f"--property={properties}", "--no-pager"]) or ""
    found = []
    for block in text.strip().split("\n\n"):
        name, micro, python = "", 0, False
        for line in block.splitlines():
            key, _equals, value = line.partition("=")
            if key == "Id":
                name = value
            elif key == "ExecMainStartTimestampMonotonic" and value.isdigit():
                micro = int(value)
            elif key in ("ExecStart", "ExecStartPre"):
                python = python or bool(_PYTHON.search(value))
        if micro and python:
            found.append([round(micro / 1e6, 2), name])
    return min(found) if found else None


def _first_words(text: str | None) -> list[str] | None:
    return None if text is None else [line.split()[0] for line in text.splitlines() if line.split()][:_LIST_MOST]


def _active_s(ask: Run, unit: str) -> float | None:
    """When a unit became active."""
    text = (ask(["systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value", unit]) or "").strip()
    return round(int(text) / 1e6, 1) if text.isdigit() and text != "0" else None


def _selftest(socket: Path) -> dict[str, Any] | None:
    """The filter's own test: a frame of a test address into the LAN port, and whether it was blocked."""
    if not socket.exists():
        return None
    from vigie.errors import VigieError

    try:
        result = client.call(socket, "self-test")
    except VigieError as e:
        return {"passed": False, "sentence": str(e)[:200]}
    return {"passed": bool(result.get("passed")), "sentence": str(result.get("sentence", ""))[:200]}


def _celsius(machine: Machine) -> float | None:
    text = machine.read("sys/class/thermal/thermal_zone0/temp")
    return int(text) / 1000 if text.lstrip("-").isdigit() else None


def _mounts(machine: Machine) -> dict[str, list[str]]:
    """Mount point -> [type, options]; the last one wins, as for whoever opens a file there."""
    found = {}
    for line in machine.read("proc/mounts").splitlines():
        words = line.split()
        if len(words) >= 4:
            found[words[1]] = [words[2], words[3]]
    return found


def _first_number(text: str) -> float | None:
    with contextlib.suppress(ValueError, IndexError):
        return float(text.split()[0])
    return None


def _json(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}
