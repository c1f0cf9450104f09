"""A namespace with two cables, and a BPF file system: where loaders and bridges are tried out.

lan ---- va        vb ---- wan
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    """The ip command; it must succeed."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def new_namespace() -> Iterator[None]:
    """The calling thread in a namespace of its own, with veth pairs lan--va and wan--vb."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert LIBC.unshare(CLONE_NEWNET) == 0, "root is needed"
        for inner, outer in (("va", "lan"), ("vb", "wan")):
            ip("link", "add", inner, "type", "veth", "peer", "name", outer)
            ip("link", "set", outer, "up")
        yield
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@contextmanager
def bpffs(folder: Path) -> Iterator[Path]:
    """A BPF file system of its own, mounted at a folder that is made."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpffs", str(folder)], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)
