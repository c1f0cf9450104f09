"""What can happen to a box on its way into the fleet: the events of `machine`, and the facts they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vigie.enrol.codes import Code


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event happened. mono_s: of a clock that never jumps; unix_s: trusted time; signed: whether the department
    signed it in this boot, which is what decisions about certificates need."""

    mono_s: float = 0.0
    unix_s: float = 0.0
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Validity of a certificate, Unix seconds, and when it is to be renewed."""

    start: float
    end: float
    renew_at: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What is on disk. certificate: in force; reply: one that was granted and is not confirmed yet; joined: there is a
    join state; leaving: a decommissioning was begun."""

    certificate: Lifetime | None = None
    reply: Lifetime | None = None
    joined: bool = False
    leaving: bool = False
    decommissioned: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The disk was read."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Clear:
    """Link, address and name of the authority are there."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """The authority answered our nonce; its signed time is in force."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A key and its CSR are on disk."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The authority issued a certificate, which was checked; it is in memory only."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The reply and the join state are on disk."""

    reply: Lifetime


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The authority knows that we hold the new certificate."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The new set is in force."""

    certificate: Lifetime


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was pending is gone from the disk."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The authority answered, but not with what was asked. retry_after_s: 0 when it did not say."""

    why: Literal["refused", "conflict", "clone", "wait", "busy", "challenge", "malformed"]
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The thing to do could not be done. detail: the technical reason, for the department."""

    code: Code
    detail: str = ""
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Due:
    """The wait is over."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Links, addresses or routes changed."""


@dataclass(frozen=True, slots=True)
class Doubted:
    """The broker refuses the certificate in force: it may have been revoked, and the box released since."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A person asked for the box to be decommissioned."""


@dataclass(frozen=True, slots=True)
class Told:
    """The authority knows that the box leaves."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Keys and certificates are gone."""


Event = (
    Loaded
    | Clear
    | Challenged
    | Prepared
    | Granted
    | Kept
    | Confirmed
    | Installed
    | Forgotten
    | Refused
    | Failed
    | Due
    | Moved
    | Doubted
    | Leave
    | Told
    | Erased
)
