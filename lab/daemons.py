"""The department's real mosquitto and nginx, from its own generated configuration."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from lab.loopback import Place, as_user
from lab.netns import Process
from vigie_department.broker.plan import BrokerPlan, WebPlan

BROKER_UID, WEB_UID = 61007, 61006


def unprivileged(uid: int) -> int | None:
    """The user id to run as: none when we are not root and cannot change it."""
    return uid if os.geteuid() == 0 else None


def give(uid: int | None, *paths: Path) -> None:
    """Each path, and everything below it, to that user."""
    if uid is None:
        return
    for path in paths:
        if path.exists():
            for one in [path, *path.rglob("*")]:
                os.chown(one, uid, uid, follow_symlinks=False)


def start_mosquitto(place: Place, plan: BrokerPlan, label: str = "mosquitto") -> Process:
    """Running, with its control socket open."""
    uid = unprivileged(BROKER_UID)
    give(uid, plan.folder, plan.key)
    process = place.start(label, *as_user(uid, ["mosquitto", "-c", str(plan.configuration)]))
    _until_open(process, plan.control)
    return process


def start_nginx(place: Place, plan: WebPlan, label: str = "nginx") -> Process:
    """Running, with its inner socket open. A socket left by one that was killed is removed: nginx would not bind."""
    uid = unprivileged(WEB_UID)
    give(uid, plan.work, plan.key)
    plan.unwrap.unlink(missing_ok=True)
    argv = ["nginx", "-p", str(plan.work), "-c", str(plan.configuration), "-e", "stderr"]
    process = place.start(label, *as_user(uid, argv))
    _until_open(process, plan.unwrap)
    return process


def _until_open(process: Process, path: Path, seconds: float = 10.0) -> None:
    """Until somebody listens on that unix socket."""
    deadline = time.monotonic() + seconds
    while not listens(path):
        if not process.running or time.monotonic() > deadline:
            raise AssertionError(f"{process.label} does not listen on {path}:\n{process.tail()}")
        time.sleep(0.02)


def listens(path: Path) -> bool:
    """Somebody accepts connections on that unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def wait_port(process: Process, ports: Iterable[int], host: str = "127.0.0.1", seconds: float = 10.0) -> None:
    """Until each of the ports accepts a connection."""
    deadline = time.monotonic() + seconds
    for port in ports:
        while True:
            try:
                socket.create_connection((host, port), timeout=1).close()
                break
            except OSError as error:
                if not process.running or time.monotonic() > deadline:
                    raise AssertionError(
                        f"{process.label} does not listen on {port}: {error}\n{process.tail()}"
                    ) from error
                time.sleep(0.02)
