"""What several feeds say of one place, made one class: the rules of precedence, in one pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vigie.contract.codes import Action, Category, Direction

from .columns import Feed
from .model import CLASS_NEVER, CLASS_PORTS, ClassEntry

#: From the most to the least severe: the category that a place listed under several of them gets.
SEVERITY: Final = (
    Category.RANSOMWARE,
    Category.C2,
    Category.BOTNET,
    Category.MALWARE,
    Category.STALKERWARE,
    Category.PHISHING,
    Category.HIJACKED,
    Category.SCAM,
    Category.CRYPTOMINING,
    Category.BRUTEFORCE,
    Category.SCANNER,
    Category.SPAM,
    Category.ANONYMISER,
    Category.SUSPICIOUS,
    Category.DOH,
    Category.TEST,
    Category.NONE,
)
_SEVERITY_RANK: Final = {category: rank for rank, category in enumerate(SEVERITY)}


@dataclass(frozen=True, slots=True)
class Layer:
    """A feed as one layer over the address space; `scoped`: its entries limited to ports."""

    feed_index: int
    feed: Feed
    scoped: bool

    @property
    def level(self) -> int:
        """Precedence: never 5, block 4, block of ports 3, observe 2, observe of ports 1, nothing 0."""
        action = self.feed.action
        if action == Action.ALLOW:
            return 5
        if action == Action.NONE:
            return 0
        return (4 if action == Action.BLOCK else 2) - self.scoped


def resolve(layers: Sequence[Layer]) -> ClassEntry:
    """Class of a place that these layers cover: the highest level decides; within it directions add up and the most
    severe category names it. NOT_LISTED when no layer has an effect."""
    level = max((layer.level for layer in layers), default=0)
    if level == 0:
        return ClassEntry()
    if level == 5:
        return ClassEntry(flags=CLASS_NEVER)
    winning = [layer for layer in layers if layer.level == level]
    directions = {layer.feed.direction for layer in winning}
    return ClassEntry(
        flags=CLASS_PORTS if winning[0].scoped else 0,
        direction=directions.pop() if len(directions) == 1 else Direction.BOTH,
        action=winning[0].feed.action,
        category=min((layer.feed.category for layer in winning), key=_SEVERITY_RANK.__getitem__),
    )
