"""What a box is told. `Desired` and `Command` are payloads of DSSE envelopes, `Received` and `Announcement` unsigned.

A box may be older than the department: a top-level field that it does not know is left out and reported, and so is an
exception, quarantine or essential service that holds one (half of a restriction would be something else than was
meant). A wrong type or value refuses the whole document. `skipped` names what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar

from vigie.contract import strictjson, targets
from vigie.contract.dsse import PAYLOAD_MAX
from vigie.contract.envelope import BOOT
from vigie.contract.fields import Fields
from vigie.contract.firmware import FirmwareOrder
from vigie.contract.identity import BOX_ID, PSEUDONYM
from vigie.contract.upward import COMMAND_ID, ISOLATION_LEVELS, UNIX_MAX, VERSION_MAX
from vigie.contract.words import Inbound, Op, Proto, RuleAction, Service

VERSION: Final = 1
EXCEPTIONS_MAX: Final = 200
NEVER_BLOCK_MAX: Final = 500
ESSENTIAL_MAX: Final = 200
RANK_MAX: Final = 9
QUARANTINE_MAX: Final = 64
NOTE_MAX: Final = 100
MASS_MAX: Final = 1000
HOURS_MAX: Final = 28
ARGS_MAX: Final = 8
DAY_MINUTES: Final = 24 * 60
ANNOUNCEMENT_MAX: Final = 1024
_PHONE: Final = re.compile(r"[0-9+ ().-]{0,32}")
_ITEM_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_FIELD: Final = re.compile(r"[a-z_]{1,24}")
"""Names of unknown fields that an answer may repeat: any other is told as `other`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Exemption:
    """An exception (Python has the word): allow, observe or block one target until a time. A name takes no port."""

    action: RuleAction
    target: str
    until: int
    device: str | None = None  # pseudonym; None = every device
    proto: Proto | None = None
    port: int | None = None
    note: str = ""

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        out = cls(
            action=f.word("action", RuleAction),
            target=targets.read(f, "target"),
            until=f.integer("until", 0, UNIX_MAX),
            device=f.text("device", 18, PSEUDONYM) if _given(f, "device") else None,
            proto=f.word("proto", Proto) if _given(f, "proto") else None,
            port=f.integer("port", 1, 65535) if _given(f, "port") else None,
            note=f.text("note", NOTE_MAX),
        )
        if (out.proto is None) != (out.port is None):
            f.fail("port", "`proto` and `port` go together")
        if out.port is not None and targets.network(out.target) is None:
            f.fail("port", "a name has no port: give an address")
        return out

    def to_dict(self) -> dict[str, Any]:
        """As JSON; fields that hold nothing are left out."""
        out: dict[str, Any] = {"action": self.action.value, "target": self.target, "until": self.until}
        if self.device is not None:
            out["device"] = self.device
        if self.proto is not None:
            out |= {"proto": self.proto.value, "port": self.port}
        return out | {"note": self.note}


@dataclass(frozen=True, slots=True)
class Essential:
    """A service that goes on at isolation level 2; `rank` 0 first."""

    name: str  # name, address or prefix
    rank: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        return cls(targets.read(f, "name"), f.integer("rank", 0, RANK_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "rank": self.rank}


@dataclass(frozen=True, slots=True)
class Isolation:
    """Isolation level of the whole commune until a time."""

    level: int
    until: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        return cls(f.one_of("level", ISOLATION_LEVELS), f.integer("until", 0, UNIX_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"level": self.level, "until": self.until}


@dataclass(frozen=True, slots=True)
class Quarantine:
    """One device cut off until a time."""

    device: str
    until: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        return cls(f.text("device", 18, PSEUDONYM), f.integer("until", 0, UNIX_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"device": self.device, "until": self.until}


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom the mairie calls, as the page shows it."""

    phone: str
    name: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The mairie is open on `day` (0 Monday .. 6 Sunday) from `start` to `end`, minutes of local time."""

    day: int
    start: int
    end: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        out = cls(f.integer("day", 0, 6), f.integer("from", 0, DAY_MINUTES), f.integer("to", 0, DAY_MINUTES))
        if out.end <= out.start:
            f.fail("to", "not after `from`")
        return out

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"day": self.day, "from": self.start, "to": self.end}


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a box. None = as the box has it by itself."""

    volunteer: bool = False  # loads candidate bases and observes what they would block
    inbound: Inbound | None = None  # LEARN or REFUSE
    contact: Contact | None = None
    hours: tuple[Opening, ...] | None = None

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        inbound = f.word("inbound", Inbound) if _given(f, "inbound") else None
        if inbound is Inbound.OFF:
            f.fail("inbound", "learn or refuse is expected: the default stays on")
        contact = None
        if _given(f, "contact"):
            c = f.object("contact")
            contact = Contact(c.text("phone", 32, _PHONE), c.text("name", 80))
        hours = tuple(Opening.read(o) for o in f.objects("hours", HOURS_MAX)) if _given(f, "hours") else None
        return cls(f.boolean("volunteer"), inbound, contact, hours)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; fields that hold nothing are left out."""
        out: dict[str, Any] = {"volunteer": self.volunteer}
        if self.inbound is not None:
            out["inbound"] = self.inbound.value
        if self.contact is not None:
            out["contact"] = {"phone": self.contact.phone, "name": self.contact.name}
        if self.hours is not None:
            out["hours"] = [o.to_dict() for o in self.hours]
        return out


@dataclass(frozen=True, slots=True)
class Desired:
    """What one box should be, whole: a new version replaces the one before, nothing is merged."""

    box: str
    version: int
    issued: int
    expires: int
    exceptions: tuple[Exemption, ...] = ()
    never_block: tuple[str, ...] = ()
    essential: tuple[Essential, ...] = ()
    isolation: Isolation | None = None
    quarantine: tuple[Quarantine, ...] = ()
    settings: Settings = Settings()
    mass: tuple[str, ...] | None = None  # every box of a mass order, this one included
    firmware: FirmwareOrder | None = None  # left out when there is none: an older box reports a field it does not know
    skipped: tuple[str, ...] = ()  # what this version of the contract does not know

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads a verified payload; MessageError."""
        f = Fields("desired", strictjson.loads(data, PAYLOAD_MAX, "desired"))
        f.constant("v", VERSION)
        skipped: list[str] = []
        mass = None
        if not f.null("mass"):
            mass = tuple(dict.fromkeys(f.object("mass").texts("boxes", MASS_MAX, 19, BOX_ID)))
        out = cls(
            box=f.text("box", 19, BOX_ID),
            version=f.integer("version", 1, VERSION_MAX),
            issued=f.integer("issued", 0, UNIX_MAX),
            expires=f.integer("expires", 0, UNIX_MAX),
            exceptions=_known(f, "exceptions", EXCEPTIONS_MAX, Exemption.read, skipped),
            never_block=_targets(f, "never_block", NEVER_BLOCK_MAX),
            essential=_known(f, "essential", ESSENTIAL_MAX, Essential.read, skipped),
            isolation=None if f.null("isolation") else _one(f, "isolation", Isolation.read, skipped),
            quarantine=_known(f, "quarantine", QUARANTINE_MAX, Quarantine.read, skipped),
            settings=_settings(f, skipped),
            mass=mass,
            firmware=_one(f, "firmware", FirmwareOrder.read, skipped) if _given(f, "firmware") else None,
        )
        if out.expires <= out.issued:
            f.fail("expires", "not after `issued`")
        skipped += [name if _FIELD.fullmatch(name) else "other" for name in f.rest()]
        return replace(out, skipped=tuple(skipped[:64]))

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without `skipped`."""
        firmware = {} if self.firmware is None else {"firmware": self.firmware.to_dict()}
        return {
            "v": VERSION,
            "box": self.box,
            "version": self.version,
            "issued": self.issued,
            "expires": self.expires,
            "exceptions": [e.to_dict() for e in self.exceptions],
            "never_block": list(self.never_block),
            "essential": [e.to_dict() for e in self.essential],
            "isolation": None if self.isolation is None else self.isolation.to_dict(),
            "quarantine": [q.to_dict() for q in self.quarantine],
            "settings": self.settings.to_dict(),
            "mass": None if self.mass is None else {"boxes": list(self.mass)},
            **firmware,
        }

    def to_bytes(self) -> bytes:
        """The payload to sign, checked as a box would read it."""
        data = strictjson.dumps(self.to_dict())
        Desired.from_bytes(data)
        return data


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do once, before `expires`. `id` is a UUID in 32 hex digits; it is done at most once."""

    box: str
    id: str
    issued: int
    expires: int
    op: str  # one of words.Op when this version knows it
    service: Service | None = None  # restart
    items: tuple[str, ...] = ()  # diagnostics: names wanted; empty = all

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads a verified payload; MessageError. Unknown top-level fields are ignored, an unknown argument is not."""
        f = Fields("command", strictjson.loads(data, PAYLOAD_MAX, "command"))
        f.constant("v", VERSION)
        op = f.text("op", 32, _ITEM_NAME)
        args = f.object("args")
        service: Service | None = None
        items: tuple[str, ...] = ()
        if op == Op.RESTART:
            service = args.word("service", Service)
        elif op == Op.DIAGNOSTICS and args.has("items"):
            items = args.texts("items", 32, 40, _ITEM_NAME)
        if op in tuple(Op):
            args.done()
        out = cls(
            box=f.text("box", 19, BOX_ID),
            id=f.text("id", 32, COMMAND_ID),
            issued=f.integer("issued", 0, UNIX_MAX),
            expires=f.integer("expires", 0, UNIX_MAX),
            op=op,
            service=service,
            items=items,
        )
        if out.expires <= out.issued:
            f.fail("expires", "not after `issued`")
        return out

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        args: dict[str, Any] = {}
        if self.service is not None:
            args["service"] = self.service.value
        if self.items:
            args["items"] = list(self.items)
        return {
            "v": VERSION,
            "box": self.box,
            "id": self.id,
            "issued": self.issued,
            "expires": self.expires,
            "op": self.op,
            "args": args,
        }

    def to_bytes(self) -> bytes:
        """The payload to sign, checked as a box would read it."""
        data = strictjson.dumps(self.to_dict())
        Command.from_bytes(data)
        return data


@dataclass(frozen=True, slots=True)
class Received:
    """The department has committed every outbox row of `boot` up to `upto`. Unsigned: a broker can lose rows anyway."""

    boot: str
    upto: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads; MessageError."""
        f = Fields("received", strictjson.loads(data, ANNOUNCEMENT_MAX, "received"))
        f.constant("v", VERSION)
        return cls(f.text("boot", 32, BOOT), f.integer("upto", 1))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return strictjson.dumps({"v": VERSION, "boot": self.boot, "upto": self.upto})


@dataclass(frozen=True, slots=True)
class Announcement:
    """There may be a new base, policy or firmware: look. Neither field is believed."""

    version: int
    at: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads; MessageError."""
        f = Fields("announcement", strictjson.loads(data, ANNOUNCEMENT_MAX, "announcement"))
        f.constant("v", VERSION)
        return cls(f.integer("version", 0, VERSION_MAX), f.integer("at", 0, UNIX_MAX))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return strictjson.dumps({"v": VERSION, "version": self.version, "at": self.at})


def _given(f: Fields, name: str) -> bool:
    """Whether an optional field holds something; null counts as not there, and as read."""
    if f.has(name):
        return True
    f.skip(name)
    return False


def _known(f: Fields, name: str, most: int, read: Callable[[Fields], T], skipped: list[str]) -> tuple[T, ...]:
    """Items of a list, without those that hold a field this version does not know."""
    out = []
    for i, item in enumerate(f.objects(name, most)):
        value = read(item)
        if item.rest():
            skipped.append(f"{name}[{i}]")
        else:
            out.append(value)
    return tuple(out)


def _one(f: Fields, name: str, read: Callable[[Fields], T], skipped: list[str]) -> T | None:
    item = f.object(name)
    value = read(item)
    if item.rest():
        skipped.append(name)
        return None
    return value


def _settings(f: Fields, skipped: list[str]) -> Settings:
    """Settings are independent of each other: an unknown one is left out, the known ones hold."""
    item = f.object("settings")
    value = Settings.read(item)
    if item.rest():
        skipped.append("settings")
    return value


def _targets(f: Fields, name: str, most: int) -> tuple[str, ...]:
    out = []
    for i, value in enumerate(f.items(name, most)):
        out.append(targets.read(Fields(f.path(name), {f"[{i}]": value}), f"[{i}]"))
    return tuple(out)
