"""`make bench-datapath`: what the data path costs, against the plain bridge and nftables in the same namespaces.

Throughput: frames or connections through the box, by turns over the plain bridge and through the data path, medians of
the ratios of neighbouring runs. Costs in nanoseconds: the kernel's own run-time statistics (bpf_stats) of
`vigie_ingress` over XDP live frames that all differ, less those of an empty program measured just before the same way.

figures
  tcp_ratio       iperf3, one stream, GSO as veth has it
  pps_ratio       64-byte UDP frames of 1,000 flows; pps_ratio_10k of 10,000; pps_ratio_1 of one
  cps_ratio       TCP connections opened and closed per second, one client
  ns_established  frames of one flow; ns_established_10k of 10,000 flows by turns
  ns_new          frames of flows never seen, random destinations, the cache of 262,144 flows full
  ns_blocked      frames to 1,000 listed addresses; ns_blocked_cold to all of them at random
  ns_dns_miss     queries for 1,000 names of 20 characters that are not listed; _cold for 900,000 of them
  ns_dns_hit      queries for 1,000 listed names, each answered by NXDOMAIN
peer
  nftables        an inet set of the same IPv4 addresses, bridged frames sent through it (what a bouncer does)
"""

from __future__ import annotations

import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from bench import common, frames
from bench.rig import DIGITS, LIST, RANDOM, ROUTER_MAC, SEQUENCE, Rig, Vary, pinned_cpu, rig, sink, statistics
from bench.synthetic import LISTED_NAMES, NAME, Synthetic, synthetic

TARGET = "198.18.0.1"
BRIDGE_NF = "net/bridge/bridge-nf-call-iptables"
PORTS_FROM = 20_000
Run = dict[str, float]


def flows(count: int) -> Vary:
    """So many flows by turns: the source port."""
    return Vary(SEQUENCE, frames.SRC_PORT4, 2, count, PORTS_FROM)


def teach_router(bench: Rig) -> None:
    """Let the box see the router's MAC behind its WAN port, as it does when a line has been up for a second."""
    bench.filtered()
    with bench.wan.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("eth0", 0))
        s.send(b"\xff" * 6 + bytes.fromhex(ROUTER_MAC.replace(":", "")) + b"\x88\xb6" + bytes(46))
    time.sleep(0.1)


def cost(bench: Rig, frame: bytes, count: int, *vary: Vary, start: int = 0, warm: int = 20_000) -> float:
    """Nanoseconds of the data path per frame, without the hook's own."""
    empty = bench.alone()
    with statistics():
        bench.inject(frame, warm, *vary)
        hook = bench.cost_ns(empty, frame, count, *vary)
        bench.filtered()
        bench.inject(frame, warm, *vary, start=start)
        whole = bench.cost_ns(bench.path.programs["vigie_ingress"], frame, count, *vary, start=start + warm)
    return whole - hook


def nanoseconds(bench: Rig, base: Synthetic) -> list[Run]:
    """Each cost once per round, so that a noisy second hits one run of each."""
    udp = frames.udp(TARGET)
    query = frames.dns_query(NAME.format(0))
    digits = frames.DNS_LABEL + 1
    listed = bench.set_list(base.addresses.astype(np.uint64))
    # The list is drawn from at random; its first 1,000 of a shuffled copy are spread over the whole base.
    bench.set_list(np.random.default_rng(2).permutation(base.addresses).astype(np.uint64))
    fill_cache(bench, udp)
    runs: list[Run] = []
    with pinned_cpu(1):
        for number in range(common.RUNS):
            fresh = (number + 1) * 5_000_000
            run = {
                "ns_established": cost(bench, udp, 400_000, flows(1)),
                "ns_established_10k": cost(bench, udp, 400_000, flows(10_000), warm=40_000),
                "ns_blocked": cost(bench, udp, 300_000, Vary(LIST, frames.DST4, 4, 1000)),
                "ns_blocked_cold": cost(bench, udp, 300_000, Vary(LIST, frames.DST4, 4, listed)),
                "ns_dns_miss": cost(bench, query, 200_000, Vary(DIGITS, digits, 6, 1000, 50_000)),
                "ns_dns_miss_cold": cost(bench, query, 200_000, Vary(DIGITS, digits, 6, 900_000, 50_000)),
                "ns_dns_hit": cost(bench, query, 200_000, Vary(DIGITS, digits, 6, LISTED_NAMES, 0)),
                "ns_new": cost(bench, udp, 300_000, Vary(RANDOM, frames.DST4), start=fresh),
            }
            runs.append(run)
            common.tell(f"  round {number + 1}: " + "  ".join(f"{k[3:]} {v:.0f}" for k, v in run.items()))
    return runs


def fill_cache(bench: Rig, udp: bytes) -> None:
    """A full cache: every entry taken."""
    bench.filtered()
    for attempt in range(8):
        bench.inject(udp, 400_000, Vary(RANDOM, frames.DST4), start=100_000_000 * (attempt + 1))
        used = int(np.count_nonzero(bench.path.flows["tag"]))
        if used == len(bench.path.flows):
            return
    if used < 0.99 * len(bench.path.flows):
        raise RuntimeError(f"the flow cache holds {used} of {len(bench.path.flows)} entries: it should be full")


def interleaved(
    modes: dict[str, Callable[[], None]], measure: Callable[[], float], runs: int = common.RUNS
) -> list[Run]:
    """`measure` under each mode by turns; the first turn only warms up."""
    out: list[Run] = []
    for number in range(common.RUNS + 1):
        run: Run = {}
        for name, enter in modes.items():
            enter()
            run[name] = measure()
        if number:
            out.append(run)
    return out


def ratio(runs: list[Run], ours: str = "ours", theirs: str = "plain") -> float:
    """Median of the ratios of neighbouring runs."""
    return common.medians([{"r": r[ours] / r[theirs]} for r in runs])["r"]


def packets(bench: Rig, count: int) -> Callable[[], float]:
    """Frames per second of so many flows."""
    udp = frames.udp(TARGET)

    def measure() -> float:
        bench.inject(udp, 30_000, flows(count))
        return 600_000 / bench.inject(udp, 600_000, flows(count))

    return measure


def tcp(bench: Rig) -> float:
    """Gbit/s of one iperf3 stream from the PC to the internet."""
    said = bench.lan.run("iperf3", "-c", TARGET, "-t", "2", "-f", "m", timeout=30).require().out
    found = re.findall(r"([\d.]+) Mbits/sec.*receiver", said)
    if not found:
        raise RuntimeError(f"iperf3 said nothing of its speed:\n{said}")
    return float(found[-1]) / 1000


def connections(bench: Rig, seconds: float = 1.5) -> float:
    """Connections a second, opened and closed one after the other by one client."""
    done = 0
    with bench.lan.entered():
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            with socket.create_connection((TARGET, 5202), timeout=2) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no TIME_WAIT pile
                s.recv(1)
            done += 1
        return done / (time.perf_counter() - begin)


SERVER = f"""
import socket
s = socket.create_server(("{TARGET}", 5202), backlog=1024)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    try:
        c.send(b"x")
        c.recv(1)
    except OSError:
        pass
    c.close()
"""


def nftables(bench: Rig, base: Synthetic) -> tuple[Callable[[], None], float]:
    """How to enter the peer's mode, and the seconds that its set took to load."""
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as rules:
        addresses = ",".join(map(str, base.addresses.tolist()))
        rules.write(
            "table inet toxic {\n set v4 { type ipv4_addr; flags interval; auto-merge; elements = { "
            + addresses
            + " } }\n"
            " chain forward { type filter hook forward priority 0; ip daddr @v4 drop; ip saddr @v4 drop; }\n}\n"
        )
        rules.flush()
        begin = time.perf_counter()
        bench.box.run("nft", "-f", rules.name, timeout=300).require()
        load = time.perf_counter() - begin

    def enter() -> None:
        bench.plain()
        bench.box.sysctl(BRIDGE_NF, 1)

    return enter, load


def main() -> int:
    """Run everything; the last line is the result."""
    base = synthetic()
    figures: dict[str, float] = {}
    with rig(base.plan) as bench:
        teach_router(bench)
        sink(bench, True)
        common.tell("nanoseconds per frame")
        runs = nanoseconds(bench, base)
        figures |= common.medians(runs)

        def plain() -> None:
            bench.box.sysctl(BRIDGE_NF, 0)
            bench.plain()

        def ours() -> None:
            bench.box.sysctl(BRIDGE_NF, 0)
            bench.filtered()

        common.tell("nftables set of the same addresses")
        nft, load = nftables(bench, base)
        modes = {"plain": plain, "ours": ours, "nft": nft}
        peer = {"nft_load_s": common.significant(load)}
        with pinned_cpu(1):
            for count, name in ((1, "pps_ratio_1"), (1000, "pps_ratio"), (10_000, "pps_ratio_10k")):
                turns = interleaved(modes, packets(bench, count))
                figures[name] = ratio(turns)
                peer[f"nft_{name}"] = ratio(turns, "nft")
                common.tell(f"  {count} flows: " + "  ".join(f"{m} {common.spread(turns, m)} pps" for m in modes))
                if count == 1000:
                    figures["pps"] = common.medians(turns)["ours"]
                    peer["plain_pps"] = common.medians(turns)["plain"]

        sink(bench, False)
        server = bench.wan.start("iperf3", "iperf3", "-s", "-B", TARGET)
        acceptor = bench.wan.start("acceptor", sys.executable, "-c", SERVER)
        acceptor.wait_for_line("ready")
        time.sleep(0.5)
        for measure, name in ((lambda: tcp(bench), "tcp_ratio"), (lambda: connections(bench), "cps_ratio")):
            turns = interleaved(modes, measure)
            figures[name] = ratio(turns)
            peer[f"nft_{name}"] = ratio(turns, "nft")
            common.tell(f"  {name}: " + "  ".join(f"{m} {common.spread(turns, m)}" for m in modes))
        server.stop()
        acceptor.stop()
    common.result("datapath", figures, peer, method="bpf_stats less an empty program; ratios of neighbouring runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
