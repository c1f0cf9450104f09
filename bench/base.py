"""The toxic base: compiling, loading into the data path, changing it; nftables with the same addresses beside it.

1 M random addresses and 1 M random names. `load_s`: from the file on disk, verified, to the instant at which the data
path decides by it. `delta_ms`: from a delta of 1,000 changes in memory to that instant; `delta_file_ms`: from the delta
as a published file, read, verified and held against the limits, as the daemon does; `patch_s`: the base file on disk
brought to the new version in the background. `rss_mb`: peak memory of a fresh process that loads, kernel arrays that it
maps included.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.common import RUNS, medians, result, spread, tell
from vigie.contract.codes import Action, Category, Direction
from vigie.filter import abi
from vigie.filter.base.additions import TEST_ADDRESS4, TEST_NAME
from vigie.filter.base.basefile import BaseFile, load_base, open_base, write_base
from vigie.filter.base.columns import U32, Feed
from vigie.filter.base.compile import compile_feeds
from vigie.filter.base.deltaformat import load_delta, pack_delta
from vigie.filter.base.diff import Delta, make_delta, patch_image
from vigie.filter.base.filedelta import kernel_delta, make_file_delta
from vigie.filter.base.image import plan_image
from vigie.filter.base.imageformat import PAGE_BYTES, SECTIONS, Header
from vigie.filter.base.limits import delta_growth
from vigie.filter.base.lists import built_in, never_block
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import Base
from vigie.filter.base.protect import build
from vigie.filter.base.readers.options import Options
from vigie.filter.base_store import box_lists, patch_on_disk
from vigie.filter.datapath import DataPath

ROOT = Path(__file__).parents[1]
OBJECT = ROOT / "firmware" / "bpf" / "build" / "filter.bpf.o"
COUNT = 1_000_000
CHANGES = 1_000
NFT_BUDGET_S = 180.0


def addresses(count: int, rng: np.random.Generator) -> U32:
    """Distinct random public-looking addresses, sorted."""
    drawn = np.zeros(0, np.uint32)
    while len(drawn) < count:
        more = rng.integers(11 << 24, 223 << 24, count, dtype=np.uint32)
        drawn = np.unique(np.concatenate((drawn, more)))
    kept: U32 = np.sort(rng.permutation(drawn)[:count])
    return kept


def names(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct random names of 10 to 27 characters, 20 on average."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8)
    endings = (".com", ".net", ".xyz", ".info", ".example.org")
    found: set[str] = set()
    while len(found) < count:
        drawn = letters[rng.integers(0, len(letters), (count - len(found), 20))].tobytes().decode()
        cut = rng.integers(6, 20, count - len(found)).tolist()
        found.update(f"{drawn[20 * i : 20 * i + n]}{endings[n % 5]}" for i, n in enumerate(cut))
    return sorted(found)


def write_feeds(folder: Path, hosts: U32, texts: list[str]) -> list[tuple[Feed, Path, Options]]:
    """The two feeds as plain text, and how to read them."""
    octets = hosts.astype(">u4").view(np.uint8).reshape(-1, 4).tolist()
    (folder / "addresses.txt").write_text("".join(f"{a}.{b}.{c}.{d}\n" for a, b, c, d in octets))
    (folder / "names.txt").write_text("\n".join(texts) + "\n")
    return [
        (
            Feed(name, Category.MALWARE, Direction.BOTH, Action.BLOCK, "made here", True),
            folder / f"{name}.txt",
            Options(),
        )
        for name in ("addresses", "names")
    ]


def compile_once(sources: list[tuple[Feed, Path, Options]], target: Path, serial: int) -> tuple[Base, float]:
    """Feeds to file, everything included: reading, validating, protecting, compiling, compressing, fsync."""
    start = time.perf_counter()
    protection = build(built_in(), never_block())
    base, _ = compile_feeds(sources, protection, serial=serial, created=serial)
    write_base(base, target)
    return base, time.perf_counter() - start


def load_once(datapath: DataPath, path: Path) -> float:
    """Verified file to the data path deciding by it, in seconds."""
    additions, _ = box_lists()
    start = time.perf_counter()
    plan = plan_image(load_base(path, sources=False, texts=False), additions)
    planned = time.perf_counter() - start
    return planned + datapath.load_image(abi.KIND_BASE, plan).visible_s


def delta_once(datapath: DataPath, delta: Delta) -> float:
    """A delta in memory to the data path deciding by it, in milliseconds."""
    additions, _ = box_lists()
    start = time.perf_counter()
    image = datapath.image_bytes()
    if image is None:
        raise RuntimeError("no image in force")
    plan = patch_image(image, delta, additions)
    planned = time.perf_counter() - start
    return 1000 * (planned + datapath.load_image(abi.KIND_BASE, plan).visible_s)


def delta_file_once(datapath: DataPath, path: Path) -> float:
    """A delta file to the data path deciding by it, in milliseconds: what an order to the daemon waits for."""
    start = time.perf_counter()
    delta = load_delta(path)
    delta_growth(delta)
    change = kernel_delta(delta)
    return 1000 * (time.perf_counter() - start) + delta_once(datapath, change)


def patch_once(old: Path, delta: Path, out: Path) -> float:
    """The base file on disk after a delta, in a process of its own, in seconds."""
    start = time.perf_counter()
    patch_on_disk(old, [delta.read_bytes()], out)
    return time.perf_counter() - start


def check(datapath: DataPath, listed: U32, gone: U32) -> None:
    """What is in the kernel must be what was asked for, else the figures mean nothing."""
    image = datapath.image_bytes()
    if image is None:
        raise RuntimeError("no image in force")
    look = Lookup(image)
    blocks = np.array([cls.action == Action.BLOCK for cls in look.classes])
    if not blocks[look.addresses4(listed)].all() or blocks[look.addresses4(gone)].any():
        raise RuntimeError("the image in force does not hold the addresses of the base")
    if not look.address(TEST_ADDRESS4) or not look.name(TEST_NAME)[1]:
        raise RuntimeError("the image in force has lost its test indicators")


def child(path: Path, obj: Path) -> int:
    """A fresh process that loads one base, as the daemon does, and says what memory it took at most."""
    import vigie.filter.engine  # noqa: F401  what the daemon has in memory anyway

    datapath = DataPath.open(obj)
    before = _peak_mb()
    seconds = load_once(datapath, path)
    print(json.dumps({"before_mb": before, "rss_mb": _peak_mb(), "first_load_s": seconds}))
    datapath.close()
    return 0


def _peak_mb() -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM")
    return int(found[1]) / 1024


def fresh(path: Path, obj: Path) -> dict[str, float]:
    """Figures of :func:`child`."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.base", "--object", str(obj), "--child", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the loading process failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Nft:
    """nftables, an inet table with one set: the form that list-driven blockers use.

    Each load is in a network namespace that ends with the process.
    """

    def __init__(self, folder: Path, hosts: U32) -> None:
        octets = hosts.astype(">u4").view(np.uint8).reshape(-1, 4).tolist()
        elements = ",".join(f"{a}.{b}.{c}.{d}" for a, b, c, d in octets)
        self._script = folder / "set.nft"
        self._script.write_text(
            "table inet vigie {\n set toxic { type ipv4_addr; size 2000000; elements = {" + elements + "} }\n"
            " chain c { type filter hook forward priority 0; ip daddr @toxic drop; }\n}\n"
        )

    def load(self) -> dict[str, float]:
        """Time and peak memory of `nft -f`, from an empty ruleset."""
        start = time.perf_counter()
        process = subprocess.Popen(["unshare", "--net", "nft", "-f", str(self._script)])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"nft: exit {process.returncode}")
        return {"nft_load_s": seconds, "nft_rss_mb": usage.ru_maxrss / 1024}


def kernel_bytes(header: Header, prefixes: tuple[str, ...]) -> int:
    """Bytes of the pages of some sections."""
    return sum(
        -(-section.count * np.dtype(SECTIONS[name]).itemsize // PAGE_BYTES) * PAGE_BYTES
        for name, section in header.sections.items()
        if name.startswith(prefixes)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; arguments are for quick looks, the figures of record come from the defaults."""
    parser = argparse.ArgumentParser(prog="bench.base", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="addresses, and names")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--object", type=Path, default=OBJECT, help="the compiled data path")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        return child(args.child, args.object)
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as name:
        return run(Path(name), args.count, args.runs, args.object)


def run(folder: Path, count: int, runs: int, obj: Path) -> int:
    """All rounds, interleaved, then the last line."""
    rng = np.random.default_rng(20_26)
    tell(f"making {count} addresses and {count} names ...")
    hosts, texts = addresses(count + CHANGES, rng), names(count, rng)
    # Base b has CHANGES addresses that a has not, and lacks as many: a delta of 1,000 is half additions.
    extra = np.zeros(len(hosts), bool)
    extra[rng.choice(len(hosts), CHANGES // 2, replace=False)] = True
    gone = np.zeros(len(hosts), bool)
    gone[rng.choice(np.flatnonzero(~extra), CHANGES // 2, replace=False)] = True
    path = folder / "base.vgb"
    for sub in ("a", "b"):
        (folder / sub).mkdir()
    sources = write_feeds(folder / "a", hosts[~extra], texts)
    base, _ = compile_once(sources, path, 1)
    after, _ = compile_once(write_feeds(folder / "b", hosts[~gone], texts), folder / "b.vgb", 2)
    forth, back = make_delta(base, after), make_delta(after, base)
    with open_base(path) as old, open_base(folder / "b.vgb") as new:
        (folder / "ab.vgd").write_bytes(pack_delta(make_file_delta(old, new)))
    header, size = plan_image(base).header(), path.stat().st_size
    listed, total = len(base.v4), len(base.names)
    # Protections took some of the random addresses out: what the bases hold counts.
    in_a, in_b = base.v4.start, after.v4.start
    with path.open("rb", buffering=0) as raw:
        file = BaseFile(lambda at, n: os.pread(raw.fileno(), n, at), size)
        file_bytes = (file.compressed_size("v4") / listed, file.compressed_size("names") / total)
    del base, after
    figures: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    datapath = DataPath.open(obj)
    nft = Nft(folder, hosts[~extra])
    for i in range(runs):
        seconds = compile_once(sources, folder / "again.vgb", 1)[1]
        one = {"compile_s": seconds, "load_s": load_once(datapath, path)}
        check(datapath, in_a, hosts[extra])
        one["delta_ms"] = delta_once(datapath, forth)
        check(datapath, in_b, hosts[gone])
        one["delta_back_ms"] = delta_once(datapath, back)
        one["delta_file_ms"] = delta_file_once(datapath, folder / "ab.vgd")
        check(datapath, in_b, hosts[gone])
        one["patch_s"] = patch_once(path, folder / "ab.vgd", folder / "patched.vgb")
        if (folder / "patched.vgb").read_bytes() != (folder / "b.vgb").read_bytes():
            raise RuntimeError("the delta does not make the published file")
        one |= fresh(path, obj)
        figures.append(one)
        if not peer or sum(p["nft_load_s"] for p in peer) * (1 + 1 / len(peer)) < NFT_BUDGET_S:
            peer.append(nft.load())
        tell(f"run {i + 1} of {runs}: " + ", ".join(f"{k} {v:.4g}" for k, v in (one | peer[-1]).items()))
    datapath.close()
    middle, middle_peer = medians(figures), medians(peer)
    tell(f"load_s {spread(figures, 'load_s')}, delta_ms {spread(figures, 'delta_ms')}")
    middle |= {
        "bytes_per_address": round(kernel_bytes(header, ("index4", "start4", "last4", "class4")) / listed, 2),
        "bytes_per_name": round(kernel_bytes(header, ("index_name", "hash_name", "class_name")) / total, 2),
        "file_bytes_per_address": round(file_bytes[0], 2),
        "file_bytes_per_name": round(file_bytes[1], 2),
        "file_bytes": size,
        "delta_file_bytes": (folder / "ab.vgd").stat().st_size,
        "load_vs_nft": round(middle_peer["nft_load_s"] / middle["load_s"], 1),
        "addresses": listed,
        "names": total,
        "changes": len(forth),
        "runs": runs,
    }
    result("base", middle, middle_peer | {"nft_runs": len(peer), "what": "nftables inet set, the addresses only"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
