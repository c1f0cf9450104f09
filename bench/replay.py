"""Packets per second of `vigie replay`, on one core, over the benign captures with the full real base.

`pps`: frames given to the data path over the wall time of everything that replay does (reading the file, telling the
LAN side, BPF_PROG_RUN, decision, events, names, held frames), median of RUNS passes over all files. `pps_passing` is
one large file of established connections (no report per frame), `pps_dns` one file of nothing but DNS (a report and a
name per frame). `ns_test_run`: one BPF_PROG_RUN of an empty program through the same call, the floor that no replay
can beat.

Peer: dpkt alone, reading the same files and decoding Ethernet, IP and transport (`dpkt_pps`), decides nothing. Passes
are interleaved. Where there is no real data, the samples of tests/data/captures are used, and `data` says so.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dpkt

from bench.common import RUNS, medians, result, spread, tell
from bench.realdata import OBJECT, ROOT, captures, data_dir, full_base
from vigie.errors import HostError
from vigie.filter.base.model import Base
from vigie.filter.base_store import box_lists
from vigie.filter.libbpf import Program
from vigie.filter.replay import Replay

SAMPLES = ROOT / "tests" / "data" / "captures"
PASSING, DNS = "doh_dot__dns__29may_benign.pcap", "dns__dns__normal_00000_20230805150331.pcap"
EMPTY_RUNS = 20_000


@contextlib.contextmanager
def material() -> Iterator[tuple[list[Path], Base | None, str]]:
    """(files, base, what they are)."""
    try:
        data = data_dir()
    except HostError as error:
        tell(str(error))
        yield sorted(SAMPLES.glob("*.pcap*")) * 50, None, "samples"
        return
    tell("compiling the full base ...")
    base, report = full_base(data)
    tell(f"{report.addresses4} IPv4, {report.addresses6} IPv6, {report.names} names")
    with captures(data) as found:
        yield found["benign"], base, "benign captures, full real base"


def dpkt_pass(files: list[Path]) -> int:
    """Frames that dpkt reads and decodes."""
    frames = 0
    for file in files:
        with file.open("rb") as stream, contextlib.suppress(dpkt.dpkt.Error, ValueError, OSError):
            for _when, data in dpkt.pcap.UniversalReader(stream):
                frames += 1
                with contextlib.suppress(dpkt.dpkt.Error, ValueError, IndexError):
                    dpkt.ethernet.Ethernet(data)
    return frames


def rate(work: Callable[[], int]) -> float:
    """Frames per second of wall time."""
    start = time.perf_counter()
    frames = work()
    return frames / (time.perf_counter() - start)


def empty_ns(program: Program) -> float:
    """Nanoseconds of one test run of a program that does nothing, on a frame of 64 bytes."""
    frame = bytes(64)
    start = time.perf_counter()
    for _ in range(EMPTY_RUNS):
        program.test_run(frame, want_data=False)
    return (time.perf_counter() - start) / EMPTY_RUNS * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--cpu", type=int, help="core to use (default: the first)")
    arguments = parser.parse_args()
    additions, _ = box_lists()
    with (
        material() as (files, base, what),
        Replay(OBJECT, base, additions=additions, cpu=arguments.cpu) as replay,
    ):
        sets = {"pps": files} | {
            name: [file for file in files if file.name == chosen]
            for name, chosen in (("pps_passing", PASSING), ("pps_dns", DNS))
        }

        def replayed(chosen: list[Path]) -> int:
            return sum(replay.run(file).frames for file in chosen)

        frames = replayed(files)  # warms caches, not counted
        tell(f"{len(files)} files, {frames} frames, {arguments.runs} runs")
        runs: list[dict[str, float]] = []
        for number in range(arguments.runs):
            run = {name: rate(partial(replayed, chosen)) for name, chosen in sets.items() if chosen}
            run["ns_test_run"] = empty_ns(replay.path.programs["vigie_empty"])
            run["dpkt_pps"] = rate(partial(dpkt_pass, files))
            runs.append(run)
            tell(f"run {number + 1}: {run['pps']:.0f} pps, dpkt {run['dpkt_pps']:.0f} pps")
    figures = medians(runs)
    tell(f"pps {spread(runs, 'pps')}")
    peer = {"dpkt_pps": figures.pop("dpkt_pps")}
    figures["ratio_to_dpkt"] = round(figures["pps"] / peer["dpkt_pps"], 3)
    result("replay", figures, peer, frames=frames, runs=arguments.runs, data=what)


if __name__ == "__main__":
    main()
