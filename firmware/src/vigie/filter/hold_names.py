"""The verdict on a server name in userspace: the same precedence as `name_decide` of `firmware/bpf/names.h`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from vigie.contract.codes import Action, Category, Reason, Verdict
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
    """One suffix of a name as the tables know it. `class_id` 0: not listed."""

    name: str
    hash: int
    class_id: int
    entry: ClassEntry | None
    local: Action = Action.NONE


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
_LOCAL = {
    Action.BLOCK: NameKind.EXCEPTION_BLOCK,
    Action.ALLOW: NameKind.EXCEPTION_ALLOW,
    Action.OBSERVE: NameKind.EXCEPTION_OBSERVE,
}


def judge(suffixes: Sequence[Suffix]) -> NameVerdict:
    """Verdict over every suffix, shortest first.

    The longest local rule wins over everything; then the longest indicator that blocks or observes, unless a
    never-block suffix at any level spares it and it is not forced.
    """
    for suffix in reversed(suffixes):
        if suffix.local is not Action.NONE:
            return NameVerdict(_LOCAL[suffix.local], suffix)
    listed = [s for s in suffixes if s.entry and s.entry.action in (Action.BLOCK, Action.OBSERVE)]
    never = [s for s in suffixes if s.entry and s.entry.never]
    if not listed:
        return NameVerdict(NameKind.NEVER, never[-1]) if never else NameVerdict(NameKind.CLEAN)
    longest = listed[-1]
    assert longest.entry is not None  # noqa: S101 - by construction of `listed`
    if never and not longest.entry.force:
        return NameVerdict(NameKind.NEVER, never[-1])
    return NameVerdict(NameKind.BLOCK if longest.entry.action is Action.BLOCK else NameKind.OBSERVE, longest)


def suffixes_of(name: str, lookup: Lookup, local: LocalAction | None, device: bytes) -> list[Suffix]:
    """Every suffix of `name`, shortest first, with what the base and the local rules say. `local(hash, mac)`."""
    classes = dict(lookup.suffixes(name))
    out = []
    for text, number in suffix_hashes(name, lookup.header.name_key, lookup.header.name_seed):
        class_id = classes.get(text, 0)
        entry = lookup.classes[class_id] if class_id else None
        out.append(Suffix(text, number, class_id, entry, local(number, device) if local else Action.NONE))
    return out
