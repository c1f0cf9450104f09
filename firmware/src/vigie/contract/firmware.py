"""Firmware: versions, the signed descriptor of a release, the order to install one, and what a box tells of it.

    firmware/<version>.json     TUF target of the offline role (2 of 5): what a release is, for which boards, from where
    desired.firmware            which release this box shall have (signed online): it names, it cannot bring anything in
    state.firmware              how far the box is

A bundle is streamed, or only fetched in parts: no digest of the file can be checked. The descriptor holds the digest of
RAUC's manifest instead, which in turn holds the root of the bundle's hash tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

from vigie.contract import strictjson
from vigie.contract.errors import MessageError
from vigie.contract.fields import Fields
from vigie.contract.strictjson import INTEGER_MAX

FOLDER: Final = "firmware"
"""Of the targets, and of the bundles below the repository's URL (beside `metadata/` and `targets/`)."""
DESCRIPTOR_MAX: Final = 64 * 1024
BUNDLE_MAX: Final = 512 * 1024 * 1024
BOARDS_MAX: Final = 16
NOTES_MAX: Final = 1000
TRIES_MAX: Final = 3
"""A version that failed this often for one order waits for a new order."""
TRIES_TOLD_MAX: Final = 1000
TIME_MAX: Final = 2**40  # as upward.UNIX_MAX, which is built on this module

BOARD: Final = re.compile(r"[a-z][a-z0-9-]{0,15}")
VERSION: Final = re.compile(r"(20[0-9]{2})\.(1[0-2]|[1-9])\.(0|[1-9][0-9]{0,3})")
VERSION_TEXT_MAX: Final = 12
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """YEAR.MONTH.N, in the order of their release. One spelling each: no leading zeros."""

    year: int
    month: int
    number: int

    def __str__(self) -> str:
        return f"{self.year}.{self.month}.{self.number}"


NO_RELEASE: Final = Version(0, 0, 0)
"""Below every release; what a system runs that was not released."""


def parse_version(text: str) -> Version:
    """MessageError unless it is the version of a release."""
    found = VERSION.fullmatch(text)
    if found is None:
        raise MessageError("version", f"{text[:40]!r} is not YEAR.MONTH.N, such as 2026.12.1")
    year, month, number = (int(part) for part in found.groups())
    return Version(year, month, number)


def running_version(text: str) -> Version:
    """What VERSION_ID of a running system stands for: a build that is no release is older than every release."""
    try:
        return parse_version(text)
    except MessageError:
        return NO_RELEASE


def read_version(f: Fields, name: str) -> Version:
    """The version in a field; MessageError names it."""
    text = f.text(name, VERSION_TEXT_MAX, VERSION)
    return parse_version(text)


def firmware_path(version: Version) -> str:
    """TUF target of a release's descriptor."""
    return f"{FOLDER}/{version}.json"


def bundle_path(board: str, version: Version) -> str:
    """Where the bundle is, below the repository's URL."""
    return f"{FOLDER}/vigie-{board}-{version}.raucb"


def compatible(board: str) -> str:
    """RAUC's word for a board: `compatible` of its system.conf and of the bundles that it takes."""
    return f"vigie-{board}"


class Severity(StrEnum):
    """Whether a mairie may postpone."""

    NORMAL = "normal"
    CRITICAL = "critical"


class Phase(StrEnum):
    """How far the box is with the order."""

    IDLE = "idle"  # no order, or none that asks for anything
    WAITING = "waiting"  # for its window, `earliest`, the network, space: `code` says for what
    POSTPONED = "postponed"  # by the mairie
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    REBOOT = "reboot"  # installed in the other slot, which the next start tries
    SOAK = "soak"  # the new system runs and is being watched
    GOOD = "good"  # said by the new system about itself, only
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"


class UpdateCode(StrEnum):
    """Why it waits, failed or went back. Append-only."""

    NO_SPACE = "no-space"
    BAD_SIGNATURE = "bad-signature"  # of the bundle (RAUC), or of TUF metadata
    OTHER_BOARD = "other-board"  # the descriptor does not list this board, or the bundle is for another one
    OLDER = "older"  # not above the running version, or below the floor
    STEP_MISSING = "step-missing"  # a version in between has to be installed first (`requires`)
    UNKNOWN_VERSION = "unknown-version"  # valid metadata does not list the version of the order
    FROZEN = "frozen"  # metadata older than what was seen before, or kept back until it expired
    EXPIRED = "expired"  # metadata ended
    TOO_LARGE = "too-large"  # more bytes than signed metadata allows
    TRUNCATED = "truncated"
    MISMATCH = "mismatch"  # the bundle is not the one that the descriptor names
    NO_NETWORK = "no-network"
    CLOCK = "clock"  # no signed time: nothing that depends on a date is decided
    EARLY = "early"  # before `earliest`
    WINDOW = "window"  # outside the hours in which the box may restart
    TRIES_SPENT = "tries-spent"
    INSTALL = "install"  # RAUC could not write the other slot
    UNHEALTHY = "unhealthy"  # `check` says what did not work
    NOT_STARTED = "not-started"  # the new system did not come up: panic, hang, watchdog
    ACTIVATION_LOST = "activation-lost"  # the restart did not try the new slot


class Check(StrEnum):
    """What a new system has to do before it calls itself good."""

    FORWARD = "forward"
    DATAPATH = "datapath"
    BASE = "base"
    LINK = "link"
    DISK = "disk"
    MEMORY = "memory"
    SELFTEST = "selftest"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One board's bundle. manifest: SHA-256 of RAUC's manifest, hex; length: bytes of the file, signature included."""

    manifest: str
    path: str
    length: int


@dataclass(frozen=True, slots=True)
class FirmwareDescriptor:
    """`firmware/<version>.json`. Unknown fields are ignored; what an old box must not overlook raises `v`."""

    version: Version
    bundles: Mapping[str, Bundle]  # by board
    floor: Version  # once this release is good, nothing older is installed any more
    requires: Version | None  # the oldest running version that may install it; None: any
    severity: Severity
    earliest: int  # Unix time before which no box installs it, by signed time
    note_fr: str  # for the mairie's page
    note_en: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = Fields("firmware", strictjson.loads(data, DESCRIPTOR_MAX, "firmware descriptor"))
        f.constant("v", 1)
        version = read_version(f, "version")
        notes = f.object("notes")
        out = cls(
            version=version,
            bundles=_bundles(f, version),
            floor=read_version(f, "floor"),
            requires=None if f.null("requires") else read_version(f, "requires"),
            severity=f.word("severity", Severity),
            earliest=f.integer("earliest", 0, TIME_MAX),
            note_fr=notes.text("fr", NOTES_MAX),
            note_en=notes.text("en", NOTES_MAX),
        )
        if out.floor > version:
            f.fail("floor", f"{out.floor} is above the version itself, {version}")
        if out.requires is not None and out.requires >= version:
            f.fail("requires", f"{out.requires} is not below the version itself, {version}")
        return out

    def to_bytes(self) -> bytes:
        """As JSON, checked as a box would read it."""
        boards = {
            board: {"manifest": one.manifest, "path": one.path, "length": one.length}
            for board, one in sorted(self.bundles.items())
        }
        data = strictjson.dumps(
            {
                "v": 1,
                "version": str(self.version),
                "boards": boards,
                "floor": str(self.floor),
                "requires": None if self.requires is None else str(self.requires),
                "severity": self.severity.value,
                "earliest": self.earliest,
                "notes": {"fr": self.note_fr, "en": self.note_en},
            }
        )
        FirmwareDescriptor.from_bytes(data)
        return data

    def bundle(self, board: str) -> Bundle | None:
        """The bundle for this board; None: the release is not for it."""
        return self.bundles.get(board)


def _bundles(f: Fields, version: Version) -> Mapping[str, Bundle]:
    boards = f.object("boards")
    names = boards.rest()
    if not 1 <= len(names) <= BOARDS_MAX:
        f.fail("boards", f"1 to {BOARDS_MAX} boards are expected")
    found = {}
    for board in names:
        if BOARD.fullmatch(board) is None:
            f.fail("boards", f"the board {board[:40]!r} does not match {BOARD.pattern}")
        one = boards.object(board)
        path = one.text("path", 80)
        if path != bundle_path(board, version):
            one.fail("path", f"{bundle_path(board, version)} is expected")
        found[board] = Bundle(one.text("manifest", 64, _SHA256), path, one.integer("length", 1, BUNDLE_MAX))
    return MappingProxyType(found)


@dataclass(frozen=True, slots=True)
class FirmwareOrder:
    """`desired.firmware`: the release that this box shall have. order: rises with each new order, which makes the
    tries count from 0 again."""

    version: Version
    order: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        return cls(read_version(f, "version"), f.integer("order", 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"version": str(self.version), "order": self.order}


@dataclass(frozen=True, slots=True)
class FirmwareState:
    """`state.firmware`. A box sends it once it has had an order, which only a department that knows the field gives."""

    version: Version | None  # of the order
    order: int  # 0: none yet
    phase: Phase
    code: UpdateCode | None = None
    check: Check | None = None  # with UNHEALTHY
    tries: int = 0  # of this order, failed ones
    floor: Version | None = None

    @classmethod
    def from_fields(cls, f: Fields) -> Self:
        """Reads and checks; refuses unknown fields, as everything upward."""
        out = cls(
            version=None if f.null("version") else read_version(f, "version"),
            order=f.integer("order", 0, INTEGER_MAX),
            phase=f.word("phase", Phase),
            code=None if f.null("code") else f.word("code", UpdateCode),
            check=None if f.null("check") else f.word("check", Check),
            tries=f.integer("tries", 0, TRIES_TOLD_MAX),
            floor=None if f.null("floor") else read_version(f, "floor"),
        )
        f.done()
        return out

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": None if self.version is None else str(self.version),
            "order": self.order,
            "phase": self.phase.value,
            "code": None if self.code is None else self.code.value,
            "check": None if self.check is None else self.check.value,
            "tries": self.tries,
            "floor": None if self.floor is None else str(self.floor),
        }
