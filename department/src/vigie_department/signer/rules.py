"""Rules that hold whoever asks. Pure: what is asked, what was signed before, and the time come in.

The boxes enforce most of them too (`vigie.contract.limits`): they are the defence against a signer that was taken over.
These here are the defence against a console or a publisher that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vigie.contract import limits
from vigie.contract.base import Descriptor, File
from vigie.contract.downward import Command, Desired
from vigie.contract.limits import OrderRefused
from vigie.contract.words import Code
from vigie_department.signer.errors import NeedsApproval, NeedsSecond, RateError, RuleError
from vigie_department.signer.log import canonical
from vigie_department.signer.metadata import TargetInfo
from vigie_department.signer.state import Release, Request, State

#: How far the clocks of console, publisher and signer may be apart.
SKEW_S: Final = 600
#: How long keyholders may take to sign a mass order, which counts from its `issued`.
CEREMONY_S: Final = 2 * 3600
#: Quarantined devices of one box without the second signature; boxes refuse the ones beyond.
DEVICES_MAX: Final = 5
ALL: Final = 100
#: New bases that may go to a part of the boxes within `wave_s`. Each version has other boxes in its wave: without a
#: bound, one wave after the other reaches nearly all of them, and no second operator was asked.
WAVES_MAX: Final = 3
EMERGENCY_BASE: Final = "emergency-base"
APPROVALS: Final = 2
#: What became useless by itself between the asking and the signing harms nobody.
_HARMLESS: Final = frozenset({Code.PART_EXPIRED})


def check_desired(state: State, desired: Desired, *, second_signed: bool, now: float) -> float:
    """End of the isolation or quarantine that the document orders; 0.0 when it orders none.

    RuleError or NeedsSecond. A hold that was signed counts until its end even when a later document lifts it: whoever
    owns the broker may deliver the first and keep back the second.
    """
    if desired.skipped:
        raise RuleError(f"unknown in a desired state: {', '.join(desired.skipped)}")
    if not -(CEREMONY_S if second_signed else SKEW_S) <= desired.issued - now <= SKEW_S:
        raise RuleError(f"issued {desired.issued - now:+.0f} s from now: set the clocks, or ask for it again")
    try:
        checked = limits.check_desired(
            desired, box=desired.box, now=now, trusted=True, second_signed=second_signed,
            newer_than=state.desired.get(desired.box, 0),
        )  # fmt: skip
    except OrderRefused as e:
        if e.code is Code.MASS_UNSIGNED:
            raise NeedsSecond(f"{desired.box}: {e}") from e
        raise RuleError(f"{desired.box}: {e}") from e
    wrong = [part.detail for part in checked.refused if part.code not in _HARMLESS]
    if wrong:
        raise RuleError(f"{desired.box}: boxes refuse this: {', '.join(wrong)}")
    if len(desired.quarantine) > DEVICES_MAX and not second_signed:
        raise NeedsSecond(
            f"{desired.box}: {len(desired.quarantine)} devices in quarantine are the whole town hall; more than "
            f"{DEVICES_MAX} need the second signature of two keyholders"
        )
    until = hold_of(desired)
    if until <= now:
        return 0.0
    others = {box for box, end in state.held.items() if end > now and box != desired.box}
    if len(others) + 1 > limits.MASS_ONLINE_MAX and not second_signed:
        raise NeedsSecond(
            f"{desired.box}: {len(others)} other boxes are isolated or have a quarantined device; more than "
            f"{limits.MASS_ONLINE_MAX} at once need the second signature of two keyholders"
        )
    return until


def hold_of(desired: Desired) -> float:
    """Latest end of what cuts people off: isolation from level 2 up, quarantine. 0.0 = nothing does."""
    ends = [float(one.until) for one in desired.quarantine]
    if desired.isolation is not None and desired.isolation.level >= limits.TEMPORARY_LEVEL:
        ends.append(float(desired.isolation.until))
    return max(ends, default=0.0)


def new_firmware(state: State, desired: Desired) -> list[str | int] | None:
    """[version, order] when the document tells its box to install something that it was not told before.

    Said again (another exception, a renewal) or taken back it is no news. Order by order this is paced, so that a
    console that was taken over cannot send the whole fleet into a restart at once.
    """
    if desired.firmware is None:
        return None
    told: list[str | int] = [str(desired.firmware.version), desired.firmware.order]
    return None if state.firmware.get(desired.box) == told else told


def check_command(command: Command, *, now: float) -> None:
    """RuleError."""
    if abs(command.issued - now) > SKEW_S:
        raise RuleError(f"issued {command.issued - now:+.0f} s from now: set the clocks, or ask for it again")
    try:
        limits.check_command(command, box=command.box, now=now, trusted=True)
    except OrderRefused as e:
        raise RuleError(f"{command.box}: {e}") from e


@dataclass(frozen=True, slots=True)
class Step:
    """What a descriptor changes. restrained: it was in a wave for long enough, or is no news."""

    version: int
    sha256: str
    length: int
    share: int
    restrained: bool


def check_descriptor(
    state: State, descriptor: Descriptor, listed: Mapping[str, TargetInfo], *, wave_s: float, now: float
) -> Step:
    """What this `base/current.json` does. RuleError when nobody may do that.

    A new base goes to a part of the boxes first; `restrained` is False when it goes to all sooner than `wave_s`
    after that.
    """
    released = descriptor.released
    if abs(descriptor.at - now) > SKEW_S and descriptor.at > now:
        raise RuleError(f"released {descriptor.at - now:.0f} s in the future")
    files: list[File] = [released, *(f for f in (descriptor.previous, descriptor.candidate) if f is not None)]
    told = {f.path: TargetInfo(f.length, f.sha256) for f in files}
    told |= {d.path: TargetInfo(d.length, d.sha256) for d in descriptor.deltas}
    for path, wanted in told.items():
        info = listed.get(path)
        if info is None or (info.sha256, info.length) != (wanted.sha256, wanted.length):
            raise RuleError(f"{path}: the descriptor and the list of targets do not agree")
    _check_previous(state, descriptor.previous)
    highest = max(state.releases, default=0)
    if released.version < highest:
        raise RuleError(f"base {released.version}: {highest} was released already, and boxes refuse an older one")
    for file in (f for f in (released, descriptor.candidate) if f is not None):
        if highest and file.version > highest + limits.VERSION_JUMP_MAX:
            raise RuleError(f"base {file.version}: too far above {highest}; boxes refuse such a jump")
    before = state.releases.get(released.version)
    if before is None:
        restrained = descriptor.share < ALL
        if restrained:
            _check_waves(state, wave_s, now)
    else:
        restrained = _next_share(released, before, descriptor.share, wave_s, now)
    return Step(released.version, released.sha256, released.length, descriptor.share, restrained)


def _check_waves(state: State, wave_s: float, now: float) -> None:
    recent = [
        v for v, r in state.releases.items() if str(ALL) not in r.shares and now - min(r.shares.values()) < wave_s
    ]
    if len(recent) >= WAVES_MAX:
        names = ", ".join(map(str, sorted(recent)))
        raise RuleError(
            f"bases {names} went to a part of the boxes within {wave_s / 3600:g} h: wait, or have two operators "
            "approve one for all"
        )


def _next_share(released: File, before: Release, share: int, wave_s: float, now: float) -> bool:
    if before.sha256 != released.sha256:
        raise RuleError(f"base {released.version} was released with another content: take a new version")
    if share < max(int(s) for s in before.shares):
        raise RuleError(f"base {released.version} is with more than {share} % already; only a revert takes it back")
    if str(share) in before.shares:
        return True
    return now - min(before.shares.values()) >= wave_s


def _check_previous(state: State, previous: File | None) -> None:
    """Boxes outside the wave load `previous`: it must be what all of them had once."""
    if previous is None:
        return
    release = state.releases.get(previous.version)
    if release is None or str(ALL) not in release.shares or release.sha256 != previous.sha256:
        raise RuleError(f"base {previous.version} was never released to all, so it cannot be what most boxes keep")


def approval_message(request_id: str, kind: str, body: Mapping[str, Any], expires: float) -> bytes:
    """What an operator signs to approve."""
    return canonical({"id": request_id, "kind": kind, "body": dict(body), "expires": expires})


def emergency_body(version: int, sha256: str) -> dict[str, Any]:
    """What two operators approve: this very base, to all boxes at once."""
    return {"version": version, "sha256": sha256}


def check_approved(state: State, request_id: str, kind: str, digest: str, now: float) -> Request:
    """The request, approved by enough operators who still are ones. NeedsApproval."""
    request = state.requests.get(request_id)
    if request is None or request.kind != kind:
        raise NeedsApproval(f"there is no request {request_id!r} of the kind {kind}; ask with `request`")
    if request.digest != digest:
        raise NeedsApproval(f"request {request_id} is about something else than what is asked now")
    if request.used is not None:
        raise NeedsApproval(f"request {request_id} was used already; each approval serves once")
    if request.expires < now:
        raise NeedsApproval(f"request {request_id} ended {now - request.expires:.0f} s ago; ask again")
    names = set(request.approvals) & set(state.operators)
    if len(names) < APPROVALS:
        raise NeedsApproval(f"request {request_id}: approved by {len(names)} operator(s), {APPROVALS} are needed")
    return request


def check_rate(wait: float, kind: str) -> None:
    """RateError when a bucket says to wait."""
    if wait > 0:
        raise RateError(f"too many signatures of the kind `{kind}`; the next one in {wait:.0f} s")
