"""The toxic base as the repository publishes it: target names, descriptor `base/current.json`, rings, limits' override.

`current.json` is a TUF target of the online role `base`; overrides are targets of the offline role. What is in the
files is `vigie.filter.base`'s; here are only names, digests and who loads what.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final, Self

from vigie.contract import strictjson
from vigie.contract.fields import Fields
from vigie.contract.upward import UNIX_MAX, VERSION_MAX

CURRENT: Final = "base/current.json"
STEERING: Final = "keys/steering.json"
OVERRIDE_TYPE: Final = "application/vnd.vigie.base-override+json"
DESCRIPTOR_MAX: Final = 64 * 1024
BASE_MAX: Final = 256 * 1024 * 1024
DELTA_MAX: Final = 64 * 1024 * 1024
DELTAS_MAX: Final = 64
RINGS: Final = 100
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHARES: Final = (5, 100)


def base_path(version: int) -> str:
    """Target of a base file."""
    return f"base/base-{version}.vgb"


def delta_path(old: int, new: int) -> str:
    """Target of a delta file."""
    return f"base/delta-{old}-{new}.vgd"


def override_path(version: int) -> str:
    """Target (offline role) that lifts the box's own limits for exactly one base file."""
    return f"override/base-{version}.json"


def ring(box: str, version: int) -> int:
    """0..99, other boxes first at each release: SHA-256 of `vigie-ring`, box and version, first 8 bytes, modulo 100.

    A box takes a release when its ring is below the release's `share`.
    """
    digest = hashlib.sha256(f"vigie-ring\0{box}\0{version}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % RINGS


@dataclass(frozen=True, slots=True)
class File:
    """A base file: version, target path, digest, bytes."""

    version: int
    path: str
    sha256: str
    length: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """The four fields of `f`; the path must be the one of the version."""
        version = f.integer("version", 1, VERSION_MAX)
        path = f.text("path", 80)
        if path != base_path(version):
            f.fail("path", f"{base_path(version)} is expected")
        return cls(version, path, f.text("sha256", 64, _SHA256), f.integer("length", 1, BASE_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"version": self.version, "path": self.path, "sha256": self.sha256, "length": self.length}


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta file from one version to another."""

    old: int
    new: int
    path: str
    sha256: str
    length: int

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        old, new = f.integer("from", 1, VERSION_MAX), f.integer("to", 1, VERSION_MAX)
        path = f.text("path", 80)
        if path != delta_path(old, new):
            f.fail("path", f"{delta_path(old, new)} is expected")
        return cls(old, new, path, f.text("sha256", 64, _SHA256), f.integer("length", 1, DELTA_MAX))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        head = {"from": self.old, "to": self.new, "path": self.path}
        return head | {"sha256": self.sha256, "length": self.length}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`base/current.json`. Unknown fields are ignored: a newer publisher may add some, older boxes go on."""

    released: File
    share: int  # 5 or 100: rings that take `released`
    at: int  # Unix time of the release, of the stage `share`
    previous: File | None  # what the others keep
    candidate: File | None  # volunteers load it beside: what it adds is only observed
    deltas: tuple[Delta, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = Fields("base", strictjson.loads(data, DESCRIPTOR_MAX, CURRENT))
        f.constant("v", 1)
        released = f.object("released")
        return cls(
            released=File.read(released),
            share=released.one_of("share", _SHARES),
            at=released.integer("at", 0, UNIX_MAX),
            previous=None if f.null("previous") else File.read(f.object("previous")),
            candidate=None if f.null("candidate") else File.read(f.object("candidate")),
            deltas=tuple(Delta.read(d) for d in f.objects("deltas", DELTAS_MAX)),
        )

    def to_bytes(self) -> bytes:
        """As JSON."""
        return strictjson.dumps(
            {
                "v": 1,
                "released": self.released.to_dict() | {"share": self.share, "at": self.at},
                "previous": None if self.previous is None else self.previous.to_dict(),
                "candidate": None if self.candidate is None else self.candidate.to_dict(),
                "deltas": [d.to_dict() for d in self.deltas],
            }
        )

    def wanted(self, box: str) -> File | None:
        """The base this box should have: `released` in its wave, else `previous`; None = keep what is there."""
        return self.released if ring(box, self.released.version) < self.share else self.previous

    def delta(self, old: int, new: int) -> Delta | None:
        """The delta from one version to another, when it is published."""
        return next((d for d in self.deltas if (d.old, d.new) == (old, new)), None)


@dataclass(frozen=True, slots=True)
class Override:
    """Payload (OVERRIDE_TYPE) of the DSSE envelope `override/base-<version>.json`: this file may go beyond the limits.

    Signed by `second.threshold` of the offline keys of steering.json, besides being a target of TUF's offline role.
    """

    version: int
    sha256: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = Fields("override", strictjson.loads(data, 4096, "override"))
        f.constant("v", 1)
        out = cls(f.integer("version", 1, VERSION_MAX), f.text("sha256", 64, _SHA256))
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return strictjson.dumps({"v": 1, "version": self.version, "sha256": self.sha256})
