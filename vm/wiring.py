"""The virtual board in the lab: QEMU in the box's namespace, its two cards at the ends of the box's two cables.

Card and cable are joined by two redirections (tc mirred), not by a bridge: a bridge keeps for itself the frames of the
link-local group (EAPOL, LLDP), which the box must forward. Nothing of this has an address: the namespace itself is
not on the network, only the board is.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.netns import Namespace
from lab.topology import LAN_PORT, WAN_PORT, Topology

PORTS = (LAN_PORT, WAN_PORT)
SHARE = "-10"
# A classic BPF program that takes every frame.
EVERY_FRAME = "1,6 0 0 4294967295"


def tap(port: int) -> str:
    """Name of the tap device behind the board's card of that number."""
    return f"tap{port}"


def connect(lab: Topology) -> list[str]:
    """Make the taps, join them to the cables. QEMU's -netdev arguments, the LAN side's first."""
    box = lab.box
    nics = []
    for number, cable in enumerate(PORTS):
        name = tap(number)
        box.ip("tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr")
        box.links.add(name)
        box.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
        box.ip("link", "set", name, "mtu", str(lab.mtu), "txqueuelen", "4000", "up")
        for source, target in ((cable, name), (name, cable)):
            box.run("tc", "qdisc", "add", "dev", source, "clsact").require()
            box.run(
                "tc", "filter", "add", "dev", source, "ingress", "bpf", "bytecode", EVERY_FRAME,
                "action", "mirred", "egress", "redirect", "dev", target,
            ).require()  # fmt: skip
        nics.append(f"tap,ifname={name},script=no,downscript=no")
    return nics


def starter(namespace: Namespace, *, terminal: bool = False) -> Callable[[Sequence[str]], subprocess.Popen[bytes]]:
    """How QEMU is started in that namespace; it dies with this process. terminal: it has this one's keyboard."""

    def start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *namespace.command(argv)]
        log = namespace.world.temp / "qemu.log"
        with log.open("ab") as sink:
            qemu = subprocess.Popen(
                guarded,
                stdin=sys.stdin if terminal else subprocess.DEVNULL,
                stdout=sys.stdout if terminal else sink,
                stderr=sys.stderr if terminal else sink,
                env=namespace.world.environment,
                start_new_session=not terminal,
                preexec_fn=_ignore_interrupt if terminal else None,
            )
        # The board's time-outs are those of hardware: what else runs on this machine gives way (sched(7), autogroup).
        with contextlib.suppress(OSError):
            Path(f"/proc/{qemu.pid}/autogroup").write_text(SHARE)
        return qemu

    return start


def _ignore_interrupt() -> None:
    """Ctrl-C is for the board; the quit key is QEMU's (Ctrl-A X)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
