"""A town hall in words: what the tests of rules say happens, told to kernel and model at once.

`Town.sends` is a frame that a LAN host sends towards the internet, `Town.receives` one that comes from there. Each
is run in the kernel and decided by the model, and both must say the same; the kernel's result is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scapy.packet import Packet

from tests.support import packets as p
from tests.support.model import Model
from tests.support.policies import CLASS_NEVER, IndicatorClass, Policy
from tests.support.progrun import Kernel, Result
from vigie.contract.codes import Action

LAN, WAN = 0, 1

TOXIC, NEVER, WATCHED = 1, 2, 3
"""Classes of the base of `HOME`."""

HOME = Policy(
    onlink=("192.168.1.0/24", "2001:db8:1::/64"),
    box_addr=(p.BOX, p.BOX6),
    gw_mac=(p.GATEWAY_MAC,),
    gateway=(p.GATEWAY,),
    box_ports=((6, 443),),
    classes={
        TOXIC: IndicatorClass(action=Action.BLOCK, category=2),
        NEVER: IndicatorClass(CLASS_NEVER),
        WATCHED: IndicatorClass(action=Action.OBSERVE, category=12),
    },
    base={
        "198.51.100.0/24": TOXIC,
        "2001:db8:bad::/48": TOXIC,
        "9.9.9.9/32": NEVER,
        "2620:fe::9/128": NEVER,
        "198.18.0.0/15": WATCHED,
    },
    names={"evil.example": TOXIC, "good.example": NEVER, "odd.example": WATCHED},
)


class Town:
    """A kernel and a model under one policy, started afresh."""

    def __init__(self, kernel: Kernel, policy: Policy = HOME, *, modelled: bool = True) -> None:
        """modelled: False for what the model leaves out (names held back, rate limits)."""
        kernel.reset()
        self.kernel = kernel
        self.policy = replace(policy, gen=4)
        self.model = Model(self.policy) if modelled else None
        kernel.apply(self.policy)

    def change(self, **fields: Any) -> None:
        """Another policy, in another epoch."""
        self.policy = replace(self.policy, gen=self.policy.gen + 4, **fields)
        self.kernel.apply(self.policy)
        if self.model is not None:
            self.model.set_policy(self.policy)

    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.kernel.advance(seconds)

    def evict(self) -> None:
        """The flow cache is lost."""
        self.kernel.evict()
        if self.model is not None:
            self.model.evict()

    def sends(
        self, packet: Packet | bytes, smac: str = p.PC_MAC, dmac: str = p.GATEWAY_MAC, vlans: Sequence[int] = ()
    ) -> Result:
        """A LAN host sends an IP packet towards the internet."""
        return self.frame(self._port(LAN), p.ether(packet, smac, dmac, vlans))

    def receives(
        self, packet: Packet | bytes, smac: str = p.GATEWAY_MAC, dmac: str = p.PC_MAC, vlans: Sequence[int] = ()
    ) -> Result:
        """An IP packet comes from the internet's side."""
        return self.frame(self._port(WAN), p.ether(packet, smac, dmac, vlans))

    def _port(self, side: int) -> int:
        return side if self.policy.wan_port != 0 else 1 - side

    def frame(self, port: int, frame: bytes) -> Result:
        """Any frame at any port."""
        result = self.kernel.run(port, frame)
        if self.model is not None:
            said = self.model.decide(port, frame, self.kernel.now)
            assert (said.verdict, said.reason) == result.decided, (said, result, frame.hex())
        return result
