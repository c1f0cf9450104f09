"""The verdict on a server name in userspace: the same precedence as `name_decide` of `firmware/bpf/names.h`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from vigie.contract.codes import Action, Category, Reason, Verdict
from vigie.filter import abi
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import ClassEntry
from vigie.filter.base.names import suffix_hashes

LocalAction = Callable[[int, bytes], Action]


class NameKind(Enum):
    """What was found for a name."""

    CLEAN = "clean"
    BLOCK = "block"
    OBSERVE = "observe"
    NEVER = "never"
    EXCEPTION_BLOCK = "exception-block"
    EXCEPTION_ALLOW = "exception-allow"
    EXCEPTION_OBSERVE = "exception-observe"


@dataclass(frozen=True, slots=True)
class Suffix:
    """One suffix of a name as the tables know it. class_id 0: not listed. local: this device's rule; anyone: all's."""

    name: str
    hash: int
    class_id: int
    entry: ClassEntry | None
    local: Action = Action.NONE
    anyone: Action = Action.NONE

    @property
    def rule(self) -> Action:
        """The local rule in force: the device's own first."""
        return self.local if self.local is not Action.NONE else self.anyone


@dataclass(frozen=True, slots=True)
class NameVerdict:
    """`suffix` decided; None when nothing did."""

    kind: NameKind
    suffix: Suffix | None = None

    @property
    def category(self) -> Category:
        """Category of the indicator that decided."""
        entry = self.suffix.entry if self.suffix else None
        return entry.category if entry else Category.NONE

    @property
    def refusal(self) -> tuple[Verdict, Reason] | None:
        """Verdict and reason for a ClientHello of this name; None when it passes unreported."""
        return _REFUSALS.get(self.kind)


_REFUSALS = {
    NameKind.BLOCK: (Verdict.REFUSE, Reason.TOXIC_SNI),
    NameKind.EXCEPTION_BLOCK: (Verdict.REFUSE, Reason.EXCEPTION_BLOCK),
    NameKind.OBSERVE: (Verdict.OBSERVE, Reason.TOXIC_SNI),
    NameKind.EXCEPTION_OBSERVE: (Verdict.OBSERVE, Reason.EXCEPTION),
}
_ACTS = (Action.BLOCK, Action.OBSERVE)
_LOCAL = {
    Action.BLOCK: NameKind.EXCEPTION_BLOCK,
    Action.ALLOW: NameKind.EXCEPTION_ALLOW,
    Action.OBSERVE: NameKind.EXCEPTION_OBSERVE,
}


def judge(suffixes: Sequence[Suffix]) -> NameVerdict:
    """Verdict over every suffix, shortest first.

    The device's longest rule wins over everything, then the longest rule for all; then the longest forced indicator;
    then a never-block suffix at any level; then the longest listed suffix.
    """
    for rule in ("local", "anyone"):
        for suffix in reversed(suffixes):
            action: Action = getattr(suffix, rule)
            if action is not Action.NONE:
                return NameVerdict(_LOCAL[action], suffix)
    listed = [(s, s.entry) for s in reversed(suffixes) if s.entry]
    forced = [(s, e) for s, e in listed if e.force and e.action in _ACTS]
    never = [s for s, e in listed if e.never]
    if never and not forced:
        return NameVerdict(NameKind.NEVER, never[0])
    for suffix, entry in (forced or listed)[:1]:
        if entry.action in _ACTS:
            return NameVerdict(NameKind.BLOCK if entry.action is Action.BLOCK else NameKind.OBSERVE, suffix)
    return NameVerdict(NameKind.CLEAN)


def suffixes_of(name: str, lookup: Lookup, local: LocalAction | None, device: bytes) -> list[Suffix]:
    """Every suffix of `name`, shortest first, with what the base and the rules say. `local(hash, mac)`: one key's."""
    classes = dict(lookup.suffixes(name))
    out = []
    for text, number in suffix_hashes(name, lookup.header.name_key, lookup.header.name_seed):
        class_id = classes.get(text, 0)
        entry = lookup.classes[class_id] if class_id else None
        rules = [local(number, mac) for mac in (device, abi.ANY_MAC)] if local else [Action.NONE] * 2
        out.append(Suffix(text, number, class_id, entry, *rules))
    return out
