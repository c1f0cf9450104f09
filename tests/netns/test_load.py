"""Under load: swaps mix nothing, floods evict nothing, toxic names leak nothing.

[lan p-lan0] ---- lan0 [ box ] wan0 ---- [p-wan0 router]
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from lab import plan, wire
from lab.bare import make_base
from lab.clients import tls
from lab.clients.steady import Conversation
from lab.servers.report import heard
from lab.topology import WAN_PORT
from tests.netns.test_refusals import tcp_syn
from tests.netns.town import INDICATORS, Town
from vigie.contract.codes import Reason
from vigie.filter.abi import KIND_BASE
from vigie.filter.base.image import build_image

PC_MAC, PC4 = plan.MACS["pc"], plan.host4("pc")
SWAPS = 100


@contextmanager
def repeating(work: Callable[[], None]) -> Iterator[None]:
    """`work` over and over in a thread while the block runs."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def test_100_swaps_under_load_mix_nothing(quick_town: Town) -> None:
    """Two bases, very different in size, list one address and not another. No packet is judged otherwise."""
    listed, clean = INDICATORS.toxic4, plan.TOWN.v4
    images = [build_image(make_base([listed], filler=filler, serial=filler + 2)) for filler in (0, 50_000)]
    toxic = [tcp_syn(PC_MAC, PC4, listed, 20000 + number) for number in range(64)]
    good = [wire.udp4(plan.MACS["router"], PC_MAC, PC4, clean, 30000 + n, 4000, b"VIGIE-CLEAN") for n in range(64)]
    sent = 0

    def load() -> None:
        nonlocal sent
        for bad, fine in zip(toxic, good, strict=True):
            lan.send(bad, fine)
            sent += 1

    with quick_town.lan_tap() as lan:
        before = {reason: quick_town.count(reason) for reason in (Reason.NO_BASE, Reason.TOXIC_ADDRESS)}
        with counted(quick_town, listed, clean) as passed:
            with repeating(load):
                for number in range(SWAPS):
                    quick_town.path.load_image(KIND_BASE, images[number % 2])
            time.sleep(0.2)
            counts = passed()
        quick_town.path.load_image(KIND_BASE, build_image(quick_town.base))
    missing, refused = (quick_town.count(reason) - count for reason, count in before.items())
    assert sent > 1000, f"only {sent} packets of each kind were sent: no load"
    assert (counts, refused, missing) == ([0, sent], sent, 0)


@contextmanager
def counted(town: Town, *addresses: str) -> Iterator[Callable[[], list[int]]]:
    """Packets to each of these that come out of the box's WAN port, counted by the router's kernel: it misses none."""
    link = town.lab.ends[WAN_PORT][1]
    rules = "\n".join(f"    ip daddr {address} counter" for address in addresses)
    hook = f'type filter hook ingress device "{link}" priority 0'
    text = f"table netdev watch {{\n  chain in {{\n    {hook};\n{rules}\n  }}\n}}\n"
    town.lab.router.run("nft", "-f", "-", stdin=text).require()

    def read() -> list[int]:
        said = json.loads(town.lab.router.run("nft", "-j", "list", "table", "netdev", "watch").require().out)
        found = [item["rule"]["expr"] for item in said["nftables"] if "rule" in item]
        return [part["counter"]["packets"] for expression in found for part in expression if "counter" in part]

    try:
        yield read
    finally:
        town.lab.router.run("nft", "delete", "table", "netdev", "watch").require()


@pytest.mark.parametrize("kind", ["syn", "udp"])
def test_inbound_flood_evicts_no_flow_of_the_office(town: Town, kind: str) -> None:
    """300,000 packets from random sources to every machine: the cache does not grow, conversations go on."""
    rng = random.Random(kind)
    target = plan.host4("pc")

    def random_source() -> str:
        return f"{rng.randrange(11, 126)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"

    frames = []
    for _ in range(3000):
        source, sport, dport = random_source(), rng.randrange(1024, 65536), rng.randrange(1, 65536)
        if kind == "syn":
            frame = bytearray(tcp_syn(plan.MACS["router"], source, target, sport, dport))
        else:
            frame = bytearray(wire.udp4(PC_MAC, plan.MACS["router"], source, target, sport, dport, b"x" * 20))
        frame[0:6] = wire.mac_bytes(PC_MAC)
        frames.append(bytes(frame))
    with ExitStack() as stack:
        talks = [
            stack.enter_context(Conversation(town.lab["pc"], address, plan.ECHO, 0.02))
            for address in (plan.CLOUD.v4, plan.CLOUD.v6)
            for _ in range(10)
        ]
        time.sleep(0.3)
        refused, evicted, made = (town.count(r) for r in (Reason.INBOUND, Reason.FLOW_EVICTED, Reason.FLOW_NEW))
        wan = stack.enter_context(town.wan_tap())
        near = stack.enter_context(wire.Tap(town.lab["pc"], "eth0"))
        for _ in range(100):
            wan.send(*frames)
        for talk in talks:
            talk.forget_gap()
        leaked = near.collect(unsolicited, 0.2)
        for talk in talks:
            talk.must_live(5000)
    assert town.count(Reason.INBOUND) - refused > 200_000, "the flood did not reach the box"
    assert leaked == []
    assert (town.count(Reason.FLOW_EVICTED), town.count(Reason.FLOW_NEW)) == (evicted, made)


def unsolicited(data: bytes) -> bool:
    """A bare SYN over IPv4, or a datagram of the flood."""
    return data[12:14] == b"\x08\x00" and ((data[23] == 6 and data[47] & 0x12 == 2) or b"x" * 20 in data)


def test_no_byte_reaches_a_toxic_name_over_1000_connections(town: Town) -> None:
    """Half of the connections are honest and succeed; meanwhile a transfer runs."""
    pc, log = town.lab["pc"], town.lab.servers.web.log
    hidden = (plan.HIDDEN.v4, plan.HIDDEN.v6)
    before = len(heard(log, "web"))

    def attempt(number: int) -> tuple[bool, tls.Attempt]:
        toxic = number % 2 == 0
        name = INDICATORS.toxic_names[number // 2 % 2] if toxic else plan.HIDDEN.name
        return toxic, tls.handshake(pc, hidden[number // 4 % 2], 443, name, timeout=10)

    load = pc.start("load", "iperf3", "--client", plan.CLOUD.v4, "--port", str(plan.IPERF), "--time", "120")
    try:
        with ThreadPoolExecutor(8) as pool:
            attempts = list(pool.map(attempt, range(2000)))
        assert load.running, f"the load ended early:\n{load.tail()}"
    finally:
        load.kill()
    wrong = [done.evidence for toxic, done in attempts if done.outcome != ("refused" if toxic else "reached")]
    assert wrong == [], f"{len(wrong)} of {len(attempts)}, the first ones:\n" + "\n".join(wrong[:5])
    time.sleep(0.5)
    seen = [entry for entry in heard(log, "web")[before:] if entry["to"] in hidden]
    silent = [entry for entry in seen if entry["first"] == 0]
    spoken = [entry for entry in seen if entry["first"] and entry["sni"] == plan.HIDDEN.name]
    assert len(spoken) == 1000
    assert len(silent) + len(spoken) == len(seen), [e for e in seen if e["first"] and e["sni"] != plan.HIDDEN.name][:3]
