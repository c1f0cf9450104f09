"""Sets of operational credentials on the disk: written whole beside the one in force, then put in force by a rename."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from vigie.enrol.credentials import BOX, CHAIN, CURRENT, KEY, MQTT
from vigie.errors import HostError
from vigie.host.boxconfig import Paths
from vigie.host.files import sync_folder, write_atomic, write_json

_SET: Final = re.compile(r"set-(\d{1,12})")


def install(
    paths: Paths, box_id: str, key_pem: bytes, chain_pem: bytes, mqtt_host: str, mqtt_ports: tuple[int, ...]
) -> None:
    """Puts a key, its chain and the broker in force together. The set before stays on disk until the next `install`:
    a session that is opening with it finishes. Raises HostError."""
    paths.enrol.mkdir(parents=True, exist_ok=True)
    numbers = _sets(paths.enrol)
    folder = paths.enrol / f"set-{max(numbers, default=0) + 1}"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    write_atomic(folder / KEY, key_pem, 0o640)  # the link and the updater are other users of the same group
    write_atomic(folder / CHAIN, chain_pem)
    write_json(folder / MQTT, {"host": mqtt_host, "ports": list(mqtt_ports)})
    write_json(folder / BOX, {"box_id": box_id})
    before = current(paths)
    link = paths.enrol / (CURRENT + ".new")
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(paths.enrol / CURRENT)
        sync_folder(paths.enrol)
    except OSError as e:
        raise HostError(f"{link}: cannot be put in force ({e.strerror})") from e
    for name in (f"set-{n}" for n in numbers):
        if before is None or name != before.name:
            shutil.rmtree(paths.enrol / name, ignore_errors=True)


def set_ports(paths: Paths, mqtt_host: str, mqtt_ports: tuple[int, ...]) -> None:
    """Writes the order of the broker's ports into the set in force. Nothing happens when there is none."""
    folder = current(paths)
    if folder is not None:
        write_json(folder / MQTT, {"host": mqtt_host, "ports": list(mqtt_ports)})


def current(paths: Paths) -> Path | None:
    """Folder of the set in force, None when there is none."""
    try:
        return (paths.enrol / CURRENT).resolve(strict=True)
    except OSError:
        return None


def withdraw(paths: Paths) -> None:
    """No set is in force any more; all are removed. Raises HostError."""
    try:
        (paths.enrol / CURRENT).unlink(missing_ok=True)
        for number in _sets(paths.enrol):
            shutil.rmtree(paths.enrol / f"set-{number}")
        if paths.enrol.is_dir():
            sync_folder(paths.enrol)
    except OSError as e:
        raise HostError(f"{paths.enrol}: credentials cannot be removed ({e.strerror})") from e


def _sets(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    found = (_SET.fullmatch(name) for name in os.listdir(folder))  # noqa: PTH208 - names are enough
    return [int(match[1]) for match in found if match is not None]
