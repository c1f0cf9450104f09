"""Captures through the real data path: each frame by BPF_PROG_RUN, on private maps, in a network namespace of its own.

What the box would have done with a capture, and why: the same program, events, decoders, hold worker and journal as on
a box, with the times of the capture. What cannot be the same: the kernel's own timers (flow ages, opener memory) run on
real time, so a capture of hours is decided as if it took seconds; and a connection that would have been refused at its
first frame goes on in the capture, so `packets` counts more than a box would see. Count `minutes` instead.

    with Replay(object_path, base) as replay:
        summary = replay.run(path)
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from vigie.contract.codes import InboundMode
from vigie.filter import abi
from vigie.filter.base.additions import Additions
from vigie.filter.base.image import plan_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys
from vigie.filter.capture import Capture, Packet, link_problem
from vigie.filter.datapath import DataPath
from vigie.filter.hold import Names
from vigie.filter.imagepins import ImagePins
from vigie.filter.journal import Journal
from vigie.filter.orientation import Network, orient
from vigie.filter.replay_machine import Machine
from vigie.filter.replay_run import Run
from vigie.filter.replay_summary import Summary

_HEAD_PACKETS: Final = 10_000
_HEAD_BYTES: Final = 16 << 20


class Replay:
    """The data path set up for replays; a context manager. Use from one thread."""

    def __init__(
        self,
        object_path: Path,
        base: Base | None = None,
        *,
        additions: Additions | None = None,
        inbound: InboundMode = InboundMode.LEARN,
        journal: Journal | None = None,
        cpu: int | None = None,
    ) -> None:
        # Without a base, an empty one: names are then still read and reported.
        self._base = base or Base(0, 0, *name_keys())
        self._machine = Machine(object_path, plan_image(self._base, additions or Additions()), inbound, cpu)
        self._journal = journal

    def __enter__(self) -> Replay:
        self._machine.__enter__()
        path = self._machine.path
        self._names = Names(path.settings, path.maps["images"], path.maps["local_names"], ImagePins(None))
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.__exit__()

    @property
    def path(self) -> DataPath:
        """The data path: exceptions, device classes and the like can be set before a run."""
        return self._machine.path

    def run(self, file: Path, lan: Iterable[Network | bytes] = ()) -> Summary:
        """Replay one file. `lan`: prefixes or MACs of its LAN side, when known. CaptureError when it is no capture."""
        with Capture(file) as capture:
            packets = iter(capture)
            head = _head(packets)
            sides = orient((packet for packet in head if not link_problem(packet.linktype)), lan)
            summary = Summary(
                file.name, sides.basis, tuple(map(str, sides.onlink)), tuple(mac.hex(":") for mac in sides.gateways)
            )
            self._machine.begin(sides)
            run = Run(self._machine, self._base, self._names, sides, summary, self._journal)
            run.feed(itertools.chain(head, packets))
            run.end()
            summary.problem = capture.problem
        if self._journal is not None:
            self._journal.flush()
        return summary


def _head(packets: Iterator[Packet]) -> list[Packet]:
    """The beginning of a capture, enough to tell its sides; kept, so that it is read once."""
    head: list[Packet] = []
    size = 0
    for packet in packets:
        head.append(packet)
        size += len(packet.data)
        if len(head) == _HEAD_PACKETS or size > _HEAD_BYTES:
            break
    return head


def lan_option(text: str) -> Network | bytes:
    """`192.168.1.0/24`, `2001:db8::/64` or `aa:bb:cc:dd:ee:ff`. ValueError otherwise."""
    if text.count(":") == 5 and "/" not in text and "::" not in text:
        return abi.mac_bytes(text)
    return ipaddress.ip_network(text, strict=False)
