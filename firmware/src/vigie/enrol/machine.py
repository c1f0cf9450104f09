"""The way into the fleet, and back: a state machine without I/O. Events come in, the next state comes out.

Each state either does one thing, which the shell does and answers with one event, or waits for `Due`:

    LOADING -> PROBING -> CHALLENGE -> PREPARE -> ENROL --+-> KEEP -> CONFIRM -> INSTALL -> ENROLLED
                 ^           (signed time)                |                                  |  |
                 |                       PREPARE -> RENEW-+<------------ 2/3 of its life ----+  +-> TIME (daily)
              WAITING, REFUSED, CONFLICT, BROKEN            LEAVE -> ERASE -> DECOMMISSIONED

What makes a crash at any step harmless: PREPARE puts key and CSR on disk before anything is sent, and takes those that
lie there already, so that a repeated request is the same request; KEEP puts the reply and the join state on disk before
CONFIRM; the credentials in force change only in INSTALL, after the authority has confirmed. The wire protocol is
`vigie.contract.enrolment`; TABLE below is the whole of the machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

from vigie.enrol import backoff
from vigie.enrol import events as on
from vigie.enrol.codes import Code
from vigie.enrol.errors import EnrolError
from vigie.enrol.events import Event, Failed, Lifetime, Moment
from vigie.enrol.status import State
from vigie.host.boxconfig import EnrolIntervals

WAITING: Final = frozenset(
    {
        State.ENROLLED,
        State.WAITING,
        State.REFUSED,
        State.CONFLICT,
        State.BROKEN,
        State.LEAVING,
        State.DECOMMISSIONED,
    }
)
"""States that wait; all others do something."""
HERE: Final = frozenset({Code.NO_LINK, Code.NO_ADDRESS, Code.NO_DNS, Code.NO_INTERNET, Code.PORTAL})
"""Reasons that a change of the network (a cable, a lease) may end: worth another attempt at once."""
PROTOCOL_TRIES: Final = 8
"""Answers that make no sense, one after the other, until a certificate that cannot be confirmed is given up."""
TELL_TRIES: Final = 5
CHALLENGE_TRIES: Final = 3
UNTOLD: Final = "the authority could not be told"


@dataclass(frozen=True, slots=True)
class Step:
    """Where the machine is now. wait_s: for waiting states, None = until something else happens."""

    state: State
    wait_s: float | None = None


@dataclass(slots=True)
class Machine:
    """One box. `handle` takes an event and gives the next step, or None when the present wait goes on."""

    intervals: EnrolIntervals
    random: random.Random
    state: State = State.LOADING
    code: Code = Code.STARTING
    detail: str = ""
    certificate: Lifetime | None = None
    joined: bool = False
    _reply: Lifetime | None = None
    _void: bool = False
    _doubted_at: float | None = None
    _challenged: bool = False
    _wait_s: float | None = None
    _tries: int = 0
    _failing_since: float | None = None
    _nonsense: int = 0
    _stale: int = 0
    _time_at: float = 0.0
    _time_tries: int = 0
    _tried_at: float = 0.0
    _tell_tries: int = 0
    _after: State = State.WAITING
    _after_wait_s: float | None = 0.0
    at: Moment = field(default_factory=Moment)

    def handle(self, event: Event, at: Moment) -> Step | None:
        """The next step. Raises EnrolError for an event that this state does not know: a fault of the shell."""
        self.at = at
        key = (self.state, type(event))
        if isinstance(event, on.Moved | on.Doubted) and key not in TABLE:
            return None
        if key not in TABLE:
            raise EnrolError(f"enrolment: event {type(event).__name__} in state {self.state.value}")
        self._wait_s = None
        target = TABLE[key]
        before = self.state
        after = target if isinstance(target, State) else target(self, event)
        if after is None:
            return None
        self.state = after
        if after is State.PROBING:
            self._tried_at = at.mono_s
        if after is State.ENROLLED:
            self.code, self.detail = Code.MEMBER, self.detail if before in (State.TIME, State.ENROLLED) else ""
            self._wait_s = self._until_next()
        return Step(after, self._wait_s)

    # -- certificates

    def _valid(self) -> bool:
        """The certificate in force can be used: nobody refused it, and it has not expired as far as we know."""
        return self.certificate is not None and not self._void and self.certificate.end > self.at.unix_s

    def _until_next(self) -> float:
        """Seconds until the certificate is to be renewed or the time to be asked for."""
        wait = max(0.0, self._time_at - self.at.mono_s)
        if self.certificate is not None and self.at.signed:
            wait = min(wait, max(0.0, self.certificate.renew_at - self.at.unix_s))
        return wait

    # -- waiting

    def _retry(self, code: Code, detail: str, retry_after_s: float = 0.0) -> State:
        """Waits for the next attempt, at least as long as the server asked."""
        if self._failing_since is None:
            self._failing_since = self.at.mono_s
        failing_s = self.at.mono_s - self._failing_since
        self._wait_s = backoff.after_failure(self.intervals, self.random, self._tries, failing_s)
        if retry_after_s > 0:
            self._wait_s = backoff.as_asked(self.intervals, self.random, retry_after_s)
        self._tries += 1
        self._challenged = False
        self.code, self.detail = code, detail
        return State.WAITING

    def _unwanted(self, state: State, code: Code, detail: str) -> State:
        """Waits long: only a person can change this."""
        self._wait_s = backoff.after_refusal(self.intervals, self.random)
        self._challenged = False
        self.code, self.detail = code, detail
        return state

    def _forget(self, after: State) -> State:
        """Gives up what is pending; the wait decided before is kept."""
        self._after, self._after_wait_s = after, self._wait_s
        self._wait_s = None
        self._nonsense = 0
        return State.FORGET

    # -- transitions with a choice

    def loaded(self, event: Event) -> State:
        """What the disk says."""
        memory = _of(event, on.Loaded).memory
        self.certificate, self._reply, self.joined = memory.certificate, memory.reply, memory.joined
        if memory.decommissioned:
            self.code = Code.DECOMMISSIONED
            return State.DECOMMISSIONED
        if memory.leaving:
            return State.LEAVE
        if self._reply is None and self._valid():
            return State.ENROLLED
        self.code = Code.EXPIRED if self.certificate is not None else Code.STARTING
        self._wait_s = self.random.uniform(0.0, self.intervals.first_s)  # a district comes back after a power cut
        return State.WAITING

    def broken(self, event: Event) -> State:
        """The identity, or the disk, cannot be used: looked at again from time to time."""
        failed = _of(event, Failed)
        self.code, self.detail = failed.code, failed.detail
        self._wait_s = self.intervals.most_s * self.random.uniform(0.5, 1.5)
        return State.BROKEN

    def looked(self, _event: Event) -> State:
        """The network is there: where were we?"""
        if self._reply is not None:
            if self.at.signed and self._reply.end <= self.at.unix_s:
                self._wait_s = 0.0
                return self._forget(State.WAITING)
            return State.KEEP
        if self._valid():
            if not self.at.signed:
                return State.TIME
            return State.PREPARE if self._due() else State.ENROLLED
        return State.CHALLENGE

    def _due(self) -> bool:
        return self.certificate is not None and self.certificate.renew_at <= self.at.unix_s

    def challenged(self, _event: Event) -> State:
        """The time is known now: a certificate that a wrong clock called expired may be in force."""
        self._time_answered()
        if self._valid() and not self._due():
            self._succeeded()
            return State.ENROLLED
        self._challenged = True
        return State.PREPARE

    def prepared(self, _event: Event) -> State:
        """Key and CSR are on disk: by which way?"""
        if self._valid():
            return State.RENEW
        return State.ENROL if self._challenged else State.CHALLENGE

    def granted(self, _event: Event) -> State:
        """A certificate came; nothing counts before it is on disk."""
        self._nonsense = 0
        self._challenged = False
        return State.KEEP

    def kept(self, event: Event) -> State:
        """Reply and join state are on disk."""
        self._reply, self.joined = _of(event, on.Kept).reply, True
        return State.CONFIRM

    def installed(self, event: Event) -> State:
        """The new set is in force."""
        self.certificate, self._reply, self._void = _of(event, on.Installed).certificate, None, False
        self._succeeded()
        return State.ENROLLED

    def _succeeded(self) -> None:
        self._tries, self._failing_since, self._nonsense, self._stale = 0, None, 0, 0

    def _time_answered(self) -> None:
        self._time_tries = 0
        self._time_at = self.at.mono_s + self.intervals.time_s * self.random.uniform(0.9, 1.1)

    def due_enrolled(self, _event: Event) -> State:
        """Enrolled, and a wait is over. The time first: what else is due depends on it."""
        if not self.at.signed:
            return State.TIME if self.at.mono_s >= self._time_at else State.ENROLLED
        if not self._valid():
            self.code = Code.EXPIRED
            return State.PROBING
        if self._due():
            return State.PROBING
        return State.TIME if self.at.mono_s >= self._time_at else State.ENROLLED

    def timed(self, _event: Event) -> State:
        """A signed time came. If it says that the certificate has expired, that is the next thing."""
        self._time_answered()
        self.detail = ""
        if not self._valid():
            self.code = Code.EXPIRED
            return State.PROBING
        return State.ENROLLED

    def untimed(self, event: Event) -> State:
        """No signed time: the member stays one, and asks again."""
        self.detail = _of(event, Failed).detail if isinstance(event, Failed) else "no signed time"
        self._time_at = self.at.mono_s + max(
            self.intervals.first_s / 5, backoff.after_failure(self.intervals, self.random, self._time_tries, 0.0)
        )
        self._time_tries += 1
        return State.ENROLLED

    def failed(self, event: Event) -> State:
        """An attempt failed. Too much nonsense about a certificate that we hold ends with a request for another.

        A request without a reply is never given up: it may have been granted, and its join state lost with the reply.
        """
        failure = _of(event, Failed)
        state = self._retry(failure.code, failure.detail, failure.retry_after_s)
        self._nonsense = self._nonsense + 1 if failure.code is Code.PROTOCOL else 0
        if self._nonsense >= PROTOCOL_TRIES and self._reply is not None:
            return self._forget(state)
        return state

    def refused(self, event: Event) -> State:
        """The authority said no, not yet, or something that makes no sense here."""
        refusal = _of(event, on.Refused)
        match refusal.why:
            case "refused" if self.state in (State.RENEW, State.CONFIRM):
                return self._by_identity()
            case "refused":
                code = Code.BLOCKED if self.joined else Code.UNKNOWN
                state = self._unwanted(State.REFUSED, code, "refused by the authority")
            case "conflict":
                state = self._unwanted(State.CONFLICT, Code.CONFLICT, "enrolled before, join state missing")
            case "clone":
                state = self._unwanted(State.CONFLICT, Code.CLONE, "another box used this identity")
            case "wait":
                return self._retry(Code.PENDING, "the authority asks to wait", refusal.retry_after_s)
            case "busy":
                return self._retry(Code.AUTHORITY_DOWN, "the authority is busy", refusal.retry_after_s)
            case "challenge" if self.state is State.ENROL and self._stale < CHALLENGE_TRIES:
                self._stale += 1  # it took us too long: another one, at once
                return State.CHALLENGE
            case _:
                return self.failed(Failed(Code.PROTOCOL, f"the authority answers `{refusal.why}`"))
        return self._forget(state) if self.state is State.CONFIRM else state

    def _by_identity(self) -> State:
        """The authority does not take this certificate (blocked, released since, or its store came from a backup): the
        identity key asks once more, and the answer to that counts."""
        confirming = self.state is State.CONFIRM
        self._void = True
        state = self._retry(Code.EXPIRED, "the authority does not take the certificate")
        return self._forget(state) if confirming else state

    def forgotten(self, _event: Event) -> State:
        """What was pending is gone; back to the wait that was decided."""
        self._reply = None
        self._wait_s = self._after_wait_s
        return self._after

    def stuck(self, event: Event) -> State:
        """The disk does not take it: nothing was sent or confirmed."""
        failed = _of(event, Failed)
        return self._retry(failed.code, failed.detail)

    def moved(self, _event: Event) -> State | None:
        """The network changed while it was what stopped us; not more often than every `look`."""
        if self.code not in HERE:
            return None
        since = self.at.mono_s - self._tried_at
        self._wait_s = max(0.0, self.intervals.look_s - since) + self.random.uniform(0.0, self.intervals.look_s / 5)
        return State.WAITING

    def moved_enrolled(self, _event: Event) -> State | None:
        """The network came back before a signed time was had."""
        if self.at.signed or self._time_tries == 0:
            return None
        self._time_at = min(self._time_at, self.at.mono_s + self.random.uniform(0.0, self.intervals.look_s))
        return State.ENROLLED

    def doubted(self, _event: Event) -> State | None:
        """The broker refuses the certificate: enrol again with the identity key, once an hour at most."""
        now = self.at.mono_s
        if self._doubted_at is not None and now - self._doubted_at < self.intervals.hourly_s:
            return None
        self._doubted_at, self._void = now, True
        self.code = Code.EXPIRED
        return State.PROBING

    def untold(self, event: Event) -> State:
        """The authority could not be told: a few times more, then an operator has to. An authority that refuses us does
        not need to be told."""
        if isinstance(event, on.Refused) and event.why == "refused":
            return State.ERASE
        self._tell_tries += 1
        if self._tell_tries >= TELL_TRIES:
            self.detail = UNTOLD
            return State.ERASE
        self._wait_s = backoff.after_failure(self.intervals, self.random, self._tell_tries, 0.0)
        return State.LEAVING

    def erased(self, _event: Event) -> State:
        """Nothing is left."""
        self.code, self.certificate, self._reply = Code.DECOMMISSIONED, None, None
        return State.DECOMMISSIONED


_E = TypeVar("_E")


def _of(event: Event, kind: type[_E]) -> _E:
    if not isinstance(event, kind):
        raise EnrolError(f"enrolment: {type(event).__name__} where {kind.__name__} is due")
    return event


Target = State | Callable[[Machine, Event], State | None]
_S = State

TABLE: Final[Mapping[tuple[State, type[Event]], Target]] = MappingProxyType(
    {
        (_S.LOADING, on.Loaded): Machine.loaded,
        (_S.LOADING, Failed): Machine.broken,
        (_S.PROBING, on.Clear): Machine.looked,
        (_S.PROBING, Failed): Machine.failed,
        (_S.CHALLENGE, on.Challenged): Machine.challenged,
        (_S.CHALLENGE, on.Refused): Machine.refused,
        (_S.CHALLENGE, Failed): Machine.failed,
        (_S.PREPARE, on.Prepared): Machine.prepared,
        (_S.PREPARE, Failed): Machine.stuck,
        (_S.ENROL, on.Granted): Machine.granted,
        (_S.ENROL, on.Refused): Machine.refused,
        (_S.ENROL, Failed): Machine.failed,
        (_S.RENEW, on.Granted): Machine.granted,
        (_S.RENEW, on.Refused): Machine.refused,
        (_S.RENEW, Failed): Machine.failed,
        (_S.KEEP, on.Kept): Machine.kept,
        (_S.KEEP, Failed): Machine.stuck,
        (_S.CONFIRM, on.Confirmed): _S.INSTALL,
        (_S.CONFIRM, on.Refused): Machine.refused,
        (_S.CONFIRM, Failed): Machine.failed,
        (_S.INSTALL, on.Installed): Machine.installed,
        (_S.INSTALL, Failed): Machine.stuck,
        (_S.FORGET, on.Forgotten): Machine.forgotten,
        (_S.FORGET, Failed): Machine.stuck,
        (_S.TIME, on.Challenged): Machine.timed,
        (_S.TIME, on.Refused): Machine.untimed,
        (_S.TIME, Failed): Machine.untimed,
        (_S.ENROLLED, on.Due): Machine.due_enrolled,
        (_S.ENROLLED, on.Moved): Machine.moved_enrolled,
        (_S.ENROLLED, on.Doubted): Machine.doubted,
        (_S.WAITING, on.Due): _S.PROBING,
        (_S.WAITING, on.Moved): Machine.moved,
        (_S.REFUSED, on.Due): _S.PROBING,
        (_S.CONFLICT, on.Due): _S.PROBING,
        (_S.BROKEN, on.Due): _S.LOADING,
        (_S.ENROLLED, on.Leave): _S.LEAVE,
        (_S.WAITING, on.Leave): _S.LEAVE,
        (_S.REFUSED, on.Leave): _S.LEAVE,
        (_S.CONFLICT, on.Leave): _S.LEAVE,
        (_S.BROKEN, on.Leave): _S.ERASE,
        (_S.LEAVING, on.Leave): _S.LEAVE,
        (_S.LEAVING, on.Due): _S.LEAVE,
        (_S.LEAVE, on.Told): _S.ERASE,
        (_S.LEAVE, on.Refused): Machine.untold,
        (_S.LEAVE, Failed): Machine.untold,
        (_S.ERASE, on.Erased): Machine.erased,
        (_S.ERASE, Failed): Machine.broken,
        (_S.DECOMMISSIONED, on.Leave): _S.DECOMMISSIONED,
    }
)
