"""A lab with the bare data path in the box, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab import plan, wire
from lab.bare import attach, make_base
from lab.office import Office
from lab.topology import LAN_PORT, WAN_PORT, Topology
from vigie.contract.codes import Reason
from vigie.filter.base.model import Base
from vigie.filter.datapath import DataPath

INDICATORS = plan.Indicators("45.155.205.233", "2a0e:b107:178::66", ("toxique.example", "hameconnage.example"))


@dataclass
class Town:
    """`base` blocks INDICATORS. Taps named after what they see: the box's LAN cable, its WAN cable."""

    lab: Topology
    path: DataPath
    base: Base

    @property
    def office(self) -> Office:
        """For the lab's own checks."""
        return Office(self.lab)

    def lan_tap(self, *, outgoing: bool = False) -> wire.Tap:
        """Switch end of the box's LAN cable: frames sent here enter the box by its LAN port."""
        return wire.Tap(self.lab.lan, self.lab.ends[LAN_PORT][1], outgoing=outgoing)

    def wan_tap(self, *, outgoing: bool = False) -> wire.Tap:
        """Router end of the box's WAN cable."""
        return wire.Tap(self.lab.router, self.lab.ends[WAN_PORT][1], outgoing=outgoing)

    def count(self, reason: Reason) -> int:
        """Packets counted under that reason so far."""
        return self.path.counters().get(reason, (0, 0))[0]


@contextmanager
def open_town(*, offload: bool, services: bool = True, mtu: int = 1500) -> Iterator[Town]:
    """Up and ready."""
    with Topology(INDICATORS, offload=offload, services=services, mtu=mtu) as lab:
        addresses = (INDICATORS.toxic4, INDICATORS.toxic6)
        base = make_base(addresses, INDICATORS.toxic_names, filler=1000)
        with attach(lab, base) as path:
            lab.wait_until_ready()
            yield Town(lab, path, base)
