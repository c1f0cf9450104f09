"""A hundred bases swapped while packets run: no packet is judged by a mixed or an empty base."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from tests.support import packets as p
from tests.support.policies import IndicatorClass
from tests.support.progrun import Kernel
from tests.support.town import HOME
from vigie.contract.codes import Action, Reason, Verdict
from vigie.filter import abi

pytestmark = pytest.mark.bpf

SWAPS = 100
BLOCK = {1: IndicatorClass(action=Action.BLOCK)}
# Each base objects to this query by one look-up only: by the name, or by the server's address. A packet that took
# the address from the one and the name from the other would pass, and so would one that met an empty base.
BY_NAME = replace(HOME, classes=BLOCK, base={"192.0.2.0/24": 1}, names={"evil.example": 1})
BY_ADDRESS = replace(HOME, classes=BLOCK, base={"203.0.113.0/24": 1}, names={"else.example": 1})
JUDGED = {
    (Verdict.NXDOMAIN, Reason.TOXIC_DNS): 0,
    (Verdict.REFUSE, Reason.TOXIC_ADDRESS): 1,
}


def test_hundred_swaps_under_load(shared_kernel: Kernel) -> None:
    kernel = shared_kernel
    kernel.reset()
    kernel.apply(BY_NAME)
    images = [kernel.base_image(BY_NAME), kernel.base_image(BY_ADDRESS)]
    shift = abi.gen_parts(kernel.data.settings.gen)[2]
    """The base slot in which BY_NAME stands: the two take turns."""
    empty = kernel.data.counters().get(Reason.NO_BASE, (0, 0))[0]
    finished, failure = threading.Event(), []

    def swap() -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # this thread may run beside the packets
        try:
            for i in range(SWAPS):
                kernel.data.load_image(abi.KIND_BASE, images[(i + 1) % 2])
        except BaseException as e:  # noqa: BLE001 - handed to the test's own thread
            failure.append(e)
        finally:
            finished.set()

    frame = p.ether(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example")))
    seen = [0, 0]
    worker = threading.Thread(target=swap)
    worker.start()
    while not finished.is_set():
        result = kernel.run(0, frame)
        raw = kernel.data.last_decision(kernel.cpu)
        base = JUDGED.get(result.decided)
        assert base is not None, f"judged by a mixed or empty base: {result}"
        assert (int(raw["gen"]) & 1) ^ shift == base, "the verdict is that of the generation it names"
        seen[base] += 1
    worker.join()
    assert not failure, failure
    assert min(seen) > SWAPS, seen
    assert kernel.data.counters().get(Reason.NO_BASE, (0, 0))[0] == empty


def test_each_swap_is_seen_by_the_next_packet(shared_kernel: Kernel) -> None:
    kernel = shared_kernel
    kernel.reset()
    kernel.apply(BY_NAME)
    images = [kernel.base_image(BY_NAME), kernel.base_image(BY_ADDRESS)]
    query = p.ether(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example")))
    known = p.ether(p.tcp(p.PC, p.PLAIN, 40000, 443, "A"))
    for i in range(SWAPS):
        which = (i + 1) % 2
        kernel.data.load_image(abi.KIND_BASE, images[which])
        assert JUDGED[kernel.run(0, query).decided] == which
        assert kernel.run(0, known).verdict == (Verdict.REFUSE if which else Verdict.PASS)
