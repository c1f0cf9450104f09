"""A network namespace of its own for test runs: nothing that a replayed frame provokes can leave.

The data path may send (resets to the other end go out through `bpf_clone_redirect`), and a test run needs a real device
for each port. So the calling thread moves into a fresh namespace with a pair of virtual devices, both down, and back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Final

from pyroute2 import IPRoute

from vigie.errors import HostError

_CLONE_NEWNET: Final = 0x4000_0000
_DEVICES: Final = ("vigie-lan", "vigie-wan")


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise HostError(f"{name}: {os.strerror(number)}: replaying needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF)")


@contextlib.contextmanager
def private_network() -> Iterator[tuple[int, int]]:
    """Kernel numbers of the two devices, LAN side first. For the calling thread only; all vanishes at the end."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            with IPRoute() as links:
                links.link("add", ifname=_DEVICES[0], kind="veth", peer={"ifname": _DEVICES[1]})
                lan, wan = (int(links.link_lookup(ifname=name)[0]) for name in _DEVICES)
            yield lan, wan
        finally:
            _call("setns", before, _CLONE_NEWNET)
    finally:
        os.close(before)


@contextlib.contextmanager
def one_cpu(cpu: int | None = None) -> Iterator[int]:
    """Keep the calling thread on one CPU (default: the first that it may use), so that per-CPU results are its own."""
    allowed = os.sched_getaffinity(0)
    chosen = min(allowed) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)
