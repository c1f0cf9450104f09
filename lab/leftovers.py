"""What a run leaves when it is killed, and how the next one removes it: by the id of the process in every name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

RUN_NETNS = Path("/run/netns")
PREFIX = "vg-"
TEMP_PREFIX = "vigie-lab-"


def clean_leftovers() -> list[str]:
    """Remove what earlier runs, whose process is gone, left behind. Returns the names removed."""
    removed = []
    for path in sorted(RUN_NETNS.glob(f"{PREFIX}*-*")) if RUN_NETNS.is_dir() else []:
        if _orphan(path.name.removeprefix(PREFIX)):
            delete_namespace(path.name)
            removed.append(path.name)
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*-*")):
        if _orphan(path.name.removeprefix(TEMP_PREFIX)):
            remove_temp(path, keep=False)
            removed.append(path.name)
    return removed


def _orphan(rest: str) -> bool:
    """`rest`, "<pid>-..." or "<pid>.<number>-...", names a process that is gone or is no Python any more."""
    pid = rest.split("-", 1)[0].split(".", 1)[0]
    if not pid.isdigit():
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"python" not in command and b"pytest" not in command


def delete_namespace(name: str) -> None:
    """End the processes inside, by id, then the namespace."""
    for _ in range(20):
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        pids = [int(word) for word in found.stdout.split() if int(word) != os.getpid()]
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def remove_temp(path: Path, *, keep: bool) -> None:
    """The folder, after the bpffs in it; `keep` leaves the files."""
    if path == Path():
        return
    bpffs = path / "bpf"
    if bpffs.is_dir() and bpffs.is_mount():
        subprocess.run(["umount", str(bpffs)], capture_output=True, check=False)
    if not keep and not bpffs.is_mount():
        shutil.rmtree(path, ignore_errors=True)
