"""What a desired state or a command is worth. Pure: bytes, keys and time in, a judgement out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from vigie.contract import strictjson
from vigie.contract.downward import Command, Desired
from vigie.contract.dsse import COMMAND_TYPE, DESIRED_TYPE, Envelope
from vigie.contract.errors import ContractError, MessageError, SignatureError, TooLargeError
from vigie.contract.fields import Fields
from vigie.contract.limits import COMMANDS_PER_HOUR, DAY_S, HOUR_S, OrderRefused, check_command, check_desired
from vigie.contract.trust import SteeringKeys
from vigie.contract.upward import COMMAND_ID, UNIX_MAX
from vigie.contract.words import Code, Op

REMEMBERED_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Now:
    """The box's time, and whether it may say that something lies in the future."""

    unix_s: float
    trusted: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A desired state whose signature, box, version and dates are right. `policy` is the payload, decoded."""

    desired: Desired
    policy: dict[str, Any]
    envelope: bytes
    second_signed: bool
    digest: str  # of the payload

    @property
    def version(self) -> int:
        """Its version."""
        return self.desired.version


class Refused(ContractError):
    """An order is refused. `version` or `id` name it when its signature was right, else 0 and ""."""

    def __init__(self, code: Code, reason: str, *, version: int = 0, ident: str = "") -> None:
        self.code = code
        self.version = version
        self.ident = ident
        super().__init__(f"{code.value}: {reason}")


def judge_desired(
    data: bytes, keys: SteeringKeys, box: str, now: Now, *, newer_than: int = 0, in_force: str = ""
) -> Order | None:
    """The order, or None when it is the one in force (digest `in_force`), delivered again. Raises Refused.

    newer_than: highest version ever in force here.
    """
    envelope, payload = _open(data, keys, DESIRED_TYPE)
    try:
        desired = Desired.from_bytes(payload)
    except MessageError as e:
        raise Refused(_malformed(e), str(e)) from e
    if desired.box != box:
        raise Refused(Code.FOREIGN, f"for {desired.box}, this is {box}")
    order = _order(envelope, desired, payload, data, keys)
    if order.digest == in_force:
        return None
    try:
        check_desired(
            desired,
            box=box,
            now=now.unix_s,
            trusted=now.trusted,
            second_signed=order.second_signed,
            newer_than=newer_than,
        )
    except OrderRefused as e:
        raise Refused(e.code, str(e), version=desired.version) from e
    return order


def reopen_desired(data: bytes, keys: SteeringKeys, box: str) -> Order:
    """An order kept on the disk, when it is still signed by a key in use and for this box. Dates were judged when it
    came: an expired order keeps what does not expire. Raises Refused."""
    envelope, payload = _open(data, keys, DESIRED_TYPE)
    try:
        desired = Desired.from_bytes(payload)
    except MessageError as e:
        raise Refused(_malformed(e), str(e)) from e
    if desired.box != box:
        raise Refused(Code.FOREIGN, f"for {desired.box}, this is {box}")
    return _order(envelope, desired, payload, data, keys)


def judge_command(data: bytes, keys: SteeringKeys, box: str, now: Now, memory: Memory) -> Command:
    """A command to do now. The caller keeps `memory.remember(...)` before it does it. Raises Refused."""
    _envelope, payload = _open(data, keys, COMMAND_TYPE)
    try:
        command = Command.from_bytes(payload)
    except MessageError as e:
        raise Refused(_malformed(e), str(e)) from e
    if command.box != box:
        raise Refused(Code.FOREIGN, f"for {command.box}, this is {box}")
    try:
        check_command(command, box=box, now=now.unix_s, trusted=now.trusted)
        memory.check(command, now.unix_s)
    except OrderRefused as e:
        raise Refused(e.code, str(e), ident=command.id) from e
    if command.op not in tuple(Op):
        raise Refused(Code.UNKNOWN_OP, f"`{command.op}` is not known here", ident=command.id)
    return command


def _open(data: bytes, keys: SteeringKeys, payload_type: str) -> tuple[Envelope, bytes]:
    try:
        envelope = Envelope.from_bytes(data)
        return envelope, keys.verify(envelope, payload_type)
    except MessageError as e:
        raise Refused(_malformed(e), str(e)) from e
    except SignatureError as e:
        raise Refused(Code.SIGNATURE, str(e)) from e


def _order(envelope: Envelope, desired: Desired, payload: bytes, data: bytes, keys: SteeringKeys) -> Order:
    digest = hashlib.sha256(payload).hexdigest()
    return Order(desired, strictjson.loads(payload), data, keys.second_signed(envelope), digest)


def _malformed(error: MessageError) -> Code:
    return Code.TOO_LARGE if isinstance(error, TooLargeError) else Code.MALFORMED


@dataclass(frozen=True, slots=True)
class Memory:
    """Commands done, so that none is done twice; kept on the disk.

    done: id -> expiry. floor: commands that expire up to there count as done: their ids were forgotten. times: when the
    last ones were accepted, for the hourly limit.
    """

    done: Mapping[str, int] = field(default_factory=dict)
    floor: int = 0
    times: tuple[int, ...] = ()

    def check(self, command: Command, now: float) -> None:
        """OrderRefused when it was done, or when too many were."""
        if command.id in self.done or command.expires <= self.floor:
            raise OrderRefused(Code.REPLAYED, f"command {command.id} was done already")
        lately = sum(now - HOUR_S < t <= now for t in self.times)
        if lately >= COMMANDS_PER_HOUR or len(self._kept(now)) >= REMEMBERED_MAX:
            raise OrderRefused(Code.RATE_LIMITED, f"{lately} commands in the last hour")

    def remember(self, command: Command, now: float) -> Self:
        """With this command done. Ids are forgotten a day after their expiry, and the floor stands in for them."""
        kept = self._kept(now)
        forgotten = [expires for ident, expires in self.done.items() if ident not in kept]
        return replace(
            self,
            done=kept | {command.id: command.expires},
            floor=max([self.floor, *forgotten]),
            times=(*self.times[-(COMMANDS_PER_HOUR - 1) :], int(now)),
        )

    def _kept(self, now: float) -> dict[str, int]:
        return {ident: expires for ident, expires in self.done.items() if expires > now - DAY_S}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From its file; MessageError."""
        f = Fields("commands", data)
        done = f.counts("done", COMMAND_ID, 2 * REMEMBERED_MAX)
        floor = f.integer("floor", 0, UNIX_MAX)
        times = []
        for i, value in enumerate(f.items("times", COMMANDS_PER_HOUR)):
            times.append(Fields("commands.times", {str(i): value}).integer(str(i), 0, UNIX_MAX))
        return cls(done, floor, tuple(times))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"done": dict(self.done), "floor": self.floor, "times": list(self.times)}
