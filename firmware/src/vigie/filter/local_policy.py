"""What people of the commune decided on the box itself: exceptions, quarantines, isolation.

`LocalPolicy` is a value: each change returns a new one. It is kept as JSON with expiries in wall-clock time (a box that
was off for a week must not revive what ended meanwhile) and compiled to rows of the data path's tables, whose expiries
are CLOCK_MONOTONIC seconds. Names are compiled as text: their hash is keyed by the base image in force.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vigie.contract.codes import Action
from vigie.errors import SourceError, UsageError
from vigie.filter.abi import FOREVER, mac_bytes, mac_text, prefix_bits
from vigie.filter.decode.names import host_name
from vigie.i18n import _

FORMAT = 1
FILE_MAX = 4 * 1024 * 1024
RULES_MAX = 2000
QUARANTINE_MAX = 512
NOTE_MAX = 200
LONGEST_S = 366 * 86_400.0
LEVELS = range(4)


class PolicyFileError(SourceError):
    """The file of the local policy cannot be used."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow, block or observe one target, for one device ("" any), one port (0 every), until a Unix time."""

    action: Action
    target: str  # canonical: `192.0.2.0/24`, `2001:db8::1/128` or a name
    device: str
    proto: int
    port: int
    until: float
    created: float
    note: str = ""
    origin: str = ""  # whose decision: "" the commune's, else `department`

    @property
    def is_name(self) -> bool:
        """Whether the target is a name (which covers its subdomains)."""
        return "/" not in self.target

    @property
    def key(self) -> tuple[str, str]:
        """The data path keeps one rule per device and target: a new one replaces it."""
        return self.device, self.target


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A device cut off until a Unix time."""

    mac: str
    until: float
    created: float
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Isolation:
    """Level 1..3 until a Unix time; level 0 is no isolation."""

    level: int = 0
    until: float = 0.0
    origin: str = ""


def canonical_target(text: str) -> str:
    """A prefix in CIDR form, or a name in lower-case A-label form. Raises UsageError."""
    word = text.strip()
    try:
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        pass
    try:
        ascii_form = word.encode("ascii") if word.isascii() else word.encode("idna")
    except UnicodeError as e:
        raise UsageError(_("« {text} » n'est ni une adresse ni un nom").format(text=text)) from e
    name, _why = host_name(ascii_form.removeprefix(b"*."))
    # A last label of digits is a mistyped address: no top-level name is (RFC 3696, 2).
    if name is None or "." not in name or name.rpartition(".")[2].isdigit():
        raise UsageError(_("« {text} » n'est ni une adresse ni un nom complet").format(text=text))
    return name


def canonical_device(text: str) -> str:
    """A MAC in lower case with colons; "" stays "" (any device). Raises UsageError."""
    if not text:
        return ""
    mac = mac_bytes(text.strip().lower())
    if mac[0] & 1 or not any(mac):
        raise UsageError(_("{text} n'est pas l'adresse MAC d'un appareil").format(text=text))
    return mac_text(mac)


@dataclass(frozen=True, slots=True)
class LocalPolicy:
    """All local decisions. Rules and quarantines are kept in order of creation."""

    rules: tuple[Rule, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    isolation: Isolation = Isolation()

    def with_rule(self, rule: Rule, now: float) -> LocalPolicy:
        """Adds or replaces a rule."""
        if not now < rule.until <= now + LONGEST_S:
            raise UsageError(_("la durée d'une règle locale va de 1 seconde à 366 jours"))
        if rule.is_name and (rule.proto or rule.port):
            raise UsageError(_("une règle sur un nom ne peut pas porter sur un port"))
        if rule.action is Action.BLOCK and not rule.is_name and ipaddress.ip_network(rule.target).prefixlen == 0:
            raise UsageError(_("bloquer toutes les adresses : utilisez plutôt l'isolement (vigie isolate)"))
        kept = tuple(r for r in self.rules if r.key != rule.key)
        if len(kept) >= RULES_MAX:
            raise UsageError(_("il y a déjà {n} règles locales : retirez-en").format(n=RULES_MAX))
        return replace(self, rules=(*kept, replace(rule, note=rule.note[:NOTE_MAX])))

    def without_rule(self, target: str, device: str) -> LocalPolicy:
        """Removes a rule; UsageError when there is none."""
        kept = tuple(r for r in self.rules if r.key != (device, target))
        if len(kept) == len(self.rules):
            raise UsageError(_("aucune règle locale pour {target}").format(target=target))
        return replace(self, rules=kept)

    def with_quarantine(self, mac: str, until: float, now: float, protected: Mapping[str, str]) -> LocalPolicy:
        """Cuts a device off. `protected` maps MACs that must not be (the gateway's, the box's) to what they are."""
        if mac in protected:
            raise UsageError(_("{mac} est {what} : la quarantaine est refusée").format(mac=mac, what=protected[mac]))
        kept = tuple(q for q in self.quarantine if q.mac != mac)
        if len(kept) >= QUARANTINE_MAX:
            raise UsageError(_("il y a déjà {n} appareils en quarantaine").format(n=QUARANTINE_MAX))
        return replace(self, quarantine=(*kept, Quarantined(mac, until, now)))

    def without_quarantine(self, mac: str) -> LocalPolicy:
        """Lets a device back; UsageError when it was not in quarantine."""
        kept = tuple(q for q in self.quarantine if q.mac != mac)
        if len(kept) == len(self.quarantine):
            raise UsageError(_("{mac} n'est pas en quarantaine").format(mac=mac))
        return replace(self, quarantine=kept)

    def with_isolation(self, level: int, until: float) -> LocalPolicy:
        """Sets the isolation level; 0 lifts it."""
        if level not in LEVELS:
            raise UsageError(_("le niveau d'isolement va de 0 à 3"))
        return replace(self, isolation=Isolation(level, until) if level else Isolation())

    def swept(self, now: float) -> LocalPolicy:
        """Without what has expired; the same object when nothing did."""
        rules = tuple(r for r in self.rules if r.until > now)
        quarantine = tuple(q for q in self.quarantine if q.until > now)
        isolation = self.isolation if self.isolation.until > now or not self.isolation.level else Isolation()
        if (len(rules), len(quarantine), isolation) == (len(self.rules), len(self.quarantine), self.isolation):
            return self
        return LocalPolicy(rules, quarantine, isolation)


# ---- compilation to table rows -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """A row of `exceptions`: `bits` counts on 128 (v4-mapped)."""

    mac: bytes
    address: bytes
    bits: int
    until_s: int
    port: int
    proto: int
    action: int


@dataclass(frozen=True, slots=True)
class NameRow:
    """A row of `local_names`, before hashing."""

    name: str
    mac: bytes
    until_s: int
    action: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """Rows for the tables and words for `control`."""

    exceptions: tuple[ExceptionRow, ...]
    names: tuple[NameRow, ...]
    quarantine: tuple[tuple[bytes, int], ...]
    isolation_level: int
    isolation_until: int


def compile_policy(policy: LocalPolicy, wall: float, mono: float, protected: Collection[bytes] = ()) -> Compiled:
    """The rows in force at wall-clock time `wall`, which is CLOCK_MONOTONIC `mono`; both in seconds.

    A MAC in `protected` that was put in quarantine before it became the gateway's is left out.
    """
    live = policy.swept(wall)

    def until(when: float) -> int:
        # Rounded up: what lasts half a second more is seen at the next sweep, what ends early is a surprise.
        return min(max(1, int(mono + (when - wall)) + 1), FOREVER - 1)

    exceptions = []
    names = []
    for rule in live.rules:
        mac = mac_bytes(rule.device or None)
        if rule.is_name:
            names.append(NameRow(rule.target, mac, until(rule.until), int(rule.action)))
        else:
            address, bits = prefix_bits(rule.target)
            row = ExceptionRow(mac, address, bits, until(rule.until), rule.port, rule.proto, int(rule.action))
            exceptions.append(row)
    cut = tuple((mac, until(q.until)) for q in live.quarantine if (mac := mac_bytes(q.mac)) not in protected)
    level = live.isolation.level
    return Compiled(tuple(exceptions), tuple(names), cut, level, until(live.isolation.until) if level else 0)


# ---- file ----------------------------------------------------------------------------------------------------


def dump(policy: LocalPolicy) -> bytes:
    """JSON text of the policy."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "rules": [asdict(r) | {"action": r.action.name.lower()} for r in policy.rules],
        "quarantine": [asdict(q) for q in policy.quarantine],
        "isolation": asdict(policy.isolation),
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def parse(data: bytes, where: Path) -> LocalPolicy:
    """The policy of a JSON text. Raises PolicyFileError, which names the bad entry."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise PolicyFileError(where, None, f"format {document['format']}, this version reads {FORMAT}")
        return LocalPolicy(
            tuple(_rule(r) for r in document["rules"][:RULES_MAX]),
            tuple(_quarantined(q) for q in document["quarantine"][:QUARANTINE_MAX]),
            _isolation(document["isolation"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as e:
        raise PolicyFileError(where, None, f"not a local policy ({type(e).__name__}: {e})") from e


def _rule(raw: Mapping[str, Any]) -> Rule:
    action = Action[str(raw["action"]).upper()]
    if action is Action.NONE:
        raise ValueError("a rule without an action")
    return Rule(
        action,
        canonical_target(str(raw["target"])),
        canonical_device(str(raw["device"])),
        _small(raw["proto"], 255),
        _small(raw["port"], 65535),
        float(raw["until"]),
        float(raw["created"]),
        str(raw["note"])[:NOTE_MAX],
    )


def _quarantined(raw: Mapping[str, Any]) -> Quarantined:
    mac = canonical_device(str(raw["mac"]))
    if not mac:
        raise ValueError("a quarantine without a MAC")
    return Quarantined(mac, float(raw["until"]), float(raw["created"]))


def _isolation(raw: Mapping[str, Any]) -> Isolation:
    return Isolation(_small(raw["level"], max(LEVELS)), float(raw["until"]))


def _small(value: Any, high: int) -> int:
    number = int(value)
    if not 0 <= number <= high:
        raise ValueError(f"{number} is not in 0..{high}")
    return number


def load(path: Path) -> LocalPolicy:
    """The policy kept in `path`; an empty one when there is no file. Raises PolicyFileError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_MAX + 1)
    except FileNotFoundError:
        return LocalPolicy()
    except OSError as e:
        raise PolicyFileError(path, None, f"cannot be read ({e.strerror})") from e
    if len(data) > FILE_MAX:
        raise PolicyFileError(path, None, f"larger than {FILE_MAX} bytes")
    return parse(data, path)


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces a file so that a power cut leaves the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def matching(rules: Iterable[Rule], address: str, name: str, device: str) -> list[Rule]:
    """Rules that concern an address and a name (either may be ""), in the data path's order of preference.

    Device rules before rules for any device; among them the longest prefix, or the longest name, first.
    """
    found = [r for r in rules if r.device in ("", device) and _covers(r, address, name)]
    return sorted(found, key=lambda r: (r.device == "", -_length(r)))


def _covers(rule: Rule, address: str, name: str) -> bool:
    if rule.is_name:
        return name == rule.target or name.endswith("." + rule.target)
    if not address:
        return False
    network = ipaddress.ip_network(rule.target)
    one = ipaddress.ip_address(address)
    return network.version == one.version and one in network


def _length(rule: Rule) -> int:
    return len(rule.target) if rule.is_name else ipaddress.ip_network(rule.target).prefixlen
