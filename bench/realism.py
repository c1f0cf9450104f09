"""What the full real base would have blocked by mistake, over captures labelled benign.

The base is compiled from every feed of the data folder with all protections except live DNS, and the captures go
through the real data path (`vigie.filter.replay`), each as one office.

*Block*: one (capture, device, indicator, reason, minute) that was refused, dropped or answered "no such name"; what
the journal keeps one row of, so a page that tries an address fifty times in a minute counts once. Left out: what is
only observed; the canaries of encrypted DNS and the test indicator, blocked on purpose; and frames with a loopback
address (captures made on `lo`: no wire carries them). Everything else counts, also scanners of the internet that were
dropped at the door and files that crawl lists of names: the label says benign, so each is listed with its feeds and
can be judged.

*Office time*: minutes of a capture in which there was at least one frame (files put together have gaps of years),
summed.

`false_blocks_per_office_day` = blocks x 480 / office minutes: blocks in a working day of eight hours. `false_blocks`
raw count; `outbound_false_blocks` those of connections or names asked for by the LAN side, which somebody would
notice; `protected_false_blocks` those of names or addresses under the never-block list (goal: 0).
`malicious_hit_share`: share of the captures labelled malicious in which at least one indicator was blocked (context:
many are older than the feeds, and a base is not what catches behaviour).
"""

from __future__ import annotations

import argparse
import ipaddress
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import result, significant, tell
from bench.realdata import OBJECT, captures, data_dir, full_base
from vigie.contract.codes import Category, Reason, Verdict
from vigie.filter.base.lists import NeverBlock, never_block
from vigie.filter.base_store import box_lists
from vigie.filter.replay import Replay
from vigie.filter.replay_summary import Hit, Summary

DAY_MINUTES = 8 * 60
ON_PURPOSE = frozenset((Category.DOH, Category.TEST))
TOXIC = frozenset((Reason.TOXIC_ADDRESS, Reason.TOXIC_DNS, Reason.TOXIC_SNI))


@dataclass(frozen=True, slots=True)
class Block:
    """A hit in a benign capture that counts."""

    file: str
    hit: Hit
    protected: bool

    @property
    def outbound(self) -> bool:
        """Somebody on the LAN side asked for it: a dropped frame is the data path's word for "opened from outside"."""
        return self.hit.verdict is not Verdict.DROP

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "indicator": self.hit.indicator,
            "reason": self.hit.reason.name.lower(),
            "category": self.hit.category.name.lower(),
            "blocks": self.hit.minutes,
            "packets": self.hit.packets,
            "outbound": self.outbound,
            "protected": self.protected,
            "seen": self.hit.seen,
            "sources": list(self.hit.sources),
        }


def is_loopback(hit: Hit) -> bool:
    """A frame that no wire carries."""
    try:
        return hit.reason is Reason.BAD_SOURCE and ipaddress.ip_address(hit.indicator).is_loopback
    except ValueError:
        return False


def is_protected(hit: Hit, never: NeverBlock, names: frozenset[str]) -> bool:
    """Under the never-block list: a name or one of its parents, or an address in one of its prefixes."""
    try:
        address = ipaddress.ip_address(hit.indicator)
    except ValueError:
        return any(".".join(name.split(".")[i:]) in names for name in hit.seen for i in range(name.count(".") + 1))
    return any(address in prefix for prefix in never.prefixes if prefix.version == address.version)


def false_blocks(summary: Summary, never: NeverBlock, names: frozenset[str]) -> list[Block]:
    """The hits of a benign capture that count as mistakes."""
    return [
        Block(summary.file, hit, is_protected(hit, never, names))
        for hit in summary.hits.values()
        if hit.verdict.blocks and hit.category not in ON_PURPOSE and not is_loopback(hit)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    data = data_dir()
    tell("compiling the full base ...")
    base, report = full_base(data)
    tell(f"{report.addresses4} IPv4, {report.addresses6} IPv6, {report.names} names")
    never = never_block()
    names = frozenset(never.names)
    additions, problem = box_lists()
    if problem:
        tell(problem)
    blocks: list[Block] = []
    minutes = frames = observed = 0
    caught: dict[Path, bool] = {}
    with captures(data) as found, Replay(OBJECT, base, additions=additions) as replay:
        for file in found["benign"]:
            summary = replay.run(file)
            minutes += summary.active_minutes
            frames += summary.frames
            observed += sum(hit.minutes for hit in summary.hits.values() if hit.verdict is Verdict.OBSERVE)
            blocks += false_blocks(summary, never, names)
        for file in found["malicious"]:
            hits = replay.run(file).hits.values()
            caught[file] = any(hit.verdict.blocks and hit.reason in TOXIC for hit in hits)
    total = sum(block.hit.minutes for block in blocks)
    outbound = sum(block.hit.minutes for block in blocks if block.outbound)
    by_file: Counter[str] = Counter()
    by_feed: Counter[str] = Counter()
    for block in sorted(blocks, key=lambda b: (b.file, -b.hit.minutes, b.hit.indicator)):
        by_file[block.file] += block.hit.minutes
        for source in block.hit.sources:
            by_feed[source] += block.hit.minutes
        hit = block.hit
        tell(
            f"{block.file}: {hit.indicator} ({hit.reason.name.lower()}, {hit.category.name.lower()}) x{hit.minutes}"
            f"{' PROTECTED' if block.protected else ''} <- {', '.join(hit.sources) or 'no feed'}"
        )
    figures = {
        "false_blocks_per_office_day": significant(total * DAY_MINUTES / max(1, minutes)),
        "false_blocks": total,
        "outbound_false_blocks": outbound,
        "protected_false_blocks": sum(block.hit.minutes for block in blocks if block.protected),
        "observed": observed,
        "files_with_blocks": len(by_file),
        "benign_files": len(found["benign"]),
        "office_days": significant(minutes / DAY_MINUTES),
        "frames": frames,
        "malicious_hit_share": significant(sum(caught.values()) / max(1, len(caught)), 3),
        "malicious_files": len(caught),
    }
    more = {"by_file": dict(by_file.most_common()), "by_feed": dict(by_feed.most_common())}
    result("realism", figures, {}, **more, blocks=[block.to_json() for block in blocks])


if __name__ == "__main__":
    main()
