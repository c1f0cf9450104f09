"""What a board says of its start, against what `make vm-check` expects of the virtual one: pure functions over facts.

Names and sentences are those of `vm.expectations`. A serial line shows less than a laboratory: what it cannot show is
not judged, and the reason is said, instead of being counted as held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from vm.expectations import EXPECTATIONS

FORWARDING: Final = 3
"""State of a bridge port (linux/if_bridge.h: BR_STATE_FORWARDING)."""


class Verdict(StrEnum):
    """About one expectation."""

    HELD = "held"
    FAILED = "failed"
    NOT_JUDGED = "not-judged"


@dataclass(frozen=True, slots=True)
class Probes:
    """What was tried through the board's two ports from this machine; None where nothing was tried.

    reached: of a good address. refused: of a toxic one. leaks: connections to the toxic one that succeeded while the
    board started.
    """

    reached: bool | None = None
    refused: bool | None = None
    leaks: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A run. first, again: facts of two starts (`vigie factory report`), empty where there was none. factory: the board
    is fresh from flashing and has no identity. again_by: how it was started again."""

    first: Mapping[str, Any] = field(default_factory=dict)
    again: Mapping[str, Any] = field(default_factory=dict)
    factory: bool = False
    again_by: str = ""
    probes: Probes = field(default_factory=Probes)


@dataclass(frozen=True, slots=True)
class Judgement:
    """evidence: what was seen, or why nothing was."""

    name: str
    sentence: str
    verdict: Verdict
    evidence: str


Answer = tuple[Verdict, str]


def _held(what: bool, evidence: str) -> Answer:
    return (Verdict.HELD if what else Verdict.FAILED), evidence


def _boot(seen: Seen) -> Answer:
    at = seen.first.get("early", {}).get("at")
    return _held(bool(seen.first) and at is not None, f"kernel {seen.first.get('kernel')}, line open at {at} s")


def _forward(seen: Seen) -> Answer:
    if seen.probes.reached is not None:
        return _held(seen.probes.reached, "a connection through the board")
    bridge = seen.first.get("bridge", {})
    open_ = len(bridge) == 2 and all(state == FORWARDING for state in bridge.values())
    return _held(open_, f"bridge ports {bridge}; no connection was tried (--reach)")


def _never_unfiltered(seen: Seen) -> Answer:
    if seen.probes.leaks is None:
        return Verdict.NOT_JUDGED, "needs traffic through the board while it starts (--toxic)"
    return _held(seen.probes.leaks == 0, f"{seen.probes.leaks} toxic connections while it started")


def _before_python(seen: Seen) -> Answer:
    at, first = seen.first.get("early", {}).get("at"), seen.first.get("first_python")
    if at is None or not first:
        return Verdict.FAILED, f"line open at {at} s, first Python {first}"
    return _held(at < first[0], f"line open at {at} s, first Python at {first[0]} s ({first[1]})")


def _object_loaded(seen: Seen) -> Answer:
    early, beat = seen.first.get("early", {}), seen.first.get("heartbeat", {})
    good = early.get("base") is True and not early.get("plain") and beat.get("attached") is True
    return _held(good, f"early {early}, heartbeat {beat}")


def _toxic_refused(seen: Seen) -> Answer:
    if seen.probes.refused is not None:
        return _held(seen.probes.refused, "a connection through the board")
    found = seen.first.get("selftest")
    if found is None:
        return Verdict.FAILED, "the filter does not answer"
    return _held(found.get("passed") is True, f"self-test: {found.get('sentence')}")


def _read_only(seen: Seen) -> Answer:
    facts = seen.first
    good = facts.get("root_fs") == "erofs" and facts.get("root_ro") is True and facts.get("verity") is True
    said = f"{facts.get('root_fs')}, read-only {facts.get('root_ro')}, verity {facts.get('verity')}"
    return _held(good, f"{said}, slot {facts.get('slot')}")


def _enrolled(seen: Seen) -> Answer:
    if seen.factory:
        return Verdict.NOT_JUDGED, "a board in the factory has no identity"
    code = seen.first.get("enrol", {}).get("code")
    return _held(code == "member", f"enrolment says `{code}`")


def _central(seen: Seen) -> Answer:
    if seen.factory:
        return Verdict.NOT_JUDGED, "a board in the factory has no department"
    base, baked = seen.first.get("heartbeat", {}).get("base"), seen.first.get("baked_base")
    if not isinstance(base, int) or not isinstance(baked, int):
        return Verdict.NOT_JUDGED, f"base {base} in force, base {baked} in the image"
    return _held(base > baked, f"base {base} in force, base {baked} in the image")


def _units(seen: Seen) -> Answer:
    failed = seen.first.get("failed_units")
    return _held(failed == [], f"failed units: {failed}")


def _hard_reset(seen: Seen) -> Answer:
    if not seen.again_by:
        return Verdict.NOT_JUDGED, "the board was not started again"
    if not seen.again:
        return Verdict.FAILED, f"after {seen.again_by} the board said nothing"
    first, again = seen.first, seen.again
    checks = [_boot, _object_loaded, _units, _read_only]
    worse = [check.__name__ for check in checks if check(Seen(first=again))[0] is Verdict.FAILED]
    same = first.get("heartbeat", {}).get("base") == again.get("heartbeat", {}).get("base")
    member = seen.factory or again.get("enrol", {}).get("code") == first.get("enrol", {}).get("code")
    other = first.get("boot") != again.get("boot")
    evidence = f"after {seen.again_by}: another start {other}, worse: {worse}, same base {same}, member {member}"
    return _held(not worse and same and member and other, evidence)


JUDGES: Final[Mapping[str, Callable[[Seen], Answer]]] = {
    "boot": _boot,
    "forward": _forward,
    "never-unfiltered": _never_unfiltered,
    "before-python": _before_python,
    "object-loaded": _object_loaded,
    "toxic-refused": _toxic_refused,
    "read-only": _read_only,
    "enrolled": _enrolled,
    "central-indicator": _central,
    "units": _units,
    "hard-reset": _hard_reset,
}


def judge(seen: Seen) -> list[Judgement]:
    """Every expectation of the virtual board, in its order. One that this package does not know is not judged."""
    found = []
    for expectation in EXPECTATIONS:
        known = JUDGES.get(expectation.name)
        verdict, evidence = known(seen) if known else (Verdict.NOT_JUDGED, "only the virtual board is judged by this")
        found.append(Judgement(expectation.name, expectation.sentence, verdict, evidence))
    return found


def line(judgements: list[Judgement], seen: Seen) -> dict[str, Any]:
    """The JSON line, shaped as that of `make vm-check`. unfiltered_ms: 0 or None; no duration is measured here."""
    early = seen.first.get("early", {})
    held = {judgement.name for judgement in judgements if judgement.verdict is Verdict.HELD}
    return {
        "hil": {
            "failed": [j.name for j in judgements if j.verdict is Verdict.FAILED],
            "not_judged": {j.name: j.evidence for j in judgements if j.verdict is Verdict.NOT_JUDGED},
            "forward_s": early.get("at"),
            "filter_s": seen.first.get("filter_s"),
            "enrolled_s": None,
            "forward_before_python": "before-python" in held,
            "unfiltered_ms": 0 if "never-unfiltered" in held else None,
            "chip": seen.first.get("chip"),
            "version": seen.first.get("version"),
            "variant": seen.first.get("variant"),
        }
    }
