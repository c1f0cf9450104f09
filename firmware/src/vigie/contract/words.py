"""Closed lists of words on the wire. Append-only: a word, once released, keeps its meaning."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a box says: the last part of `vigie/v1/<box>/up/<kind>`."""

    STATE = "state"
    ALERT = "alert"
    METRIC = "metric"
    ACK = "ack"
    REQUEST = "request"
    DIAGNOSTIC = "diagnostic"

    @property
    def in_outbox(self) -> bool:
        """Whether messages of this kind wait in the outbox until the department confirms them."""
        return self is not Kind.STATE


class Order(StrEnum):
    """What a box is told: the last part of `vigie/v1/<box>/down/<order>`."""

    DESIRED = "desired"
    COMMAND = "command"
    RECEIVED = "received"


class Look(StrEnum):
    """Announcements to all boxes (`vigie/v1/all/down/<look>`): they only say "look"."""

    BASE = "base"
    POLICY = "policy"
    FIRMWARE = "firmware"


class Clock(StrEnum):
    """What the box knows of the time when it wrote `ts`, from worst to best."""

    UNSET = "unset"
    FLOOR = "floor"
    SIGNED = "signed"
    NTP = "ntp"

    @property
    def trusted(self) -> bool:
        """Whether `ts` may be taken for the time."""
        return self in (Clock.SIGNED, Clock.NTP)


class Rule(StrEnum):
    """What raised an alert."""

    TOXIC_ADDRESS = "toxic-address"
    TOXIC_NAME = "toxic-name"
    LOCAL_BLOCK = "local-block"
    DEPARTMENT_BLOCK = "department-block"
    DEVICE_CLASS = "device-class"
    DYNAMIC = "dynamic"
    ISOLATION = "isolation"
    QUARANTINE = "quarantine"
    INBOUND = "inbound"
    SPOOF = "spoof"
    ROLES_SET = "roles-set"
    ROLES_CHANGED = "roles-changed"
    GATEWAY_CHANGED = "gateway-changed"
    GATEWAY_ON_LAN = "gateway-on-lan"
    ROGUE_ROUTER = "rogue-router"
    ROGUE_DHCP = "rogue-dhcp"
    LINK_DOWN = "link-down"
    LINK_UP = "link-up"
    LOOP = "loop"
    LOOP_GONE = "loop-gone"
    SELF_TEST_FAILED = "self-test-failed"
    OUTBOX_LOSS = "outbox-loss"
    SCHEMA_REFUSED = "schema-refused"
    ORDER_REFUSED = "order-refused"
    LOCAL_LIFT = "local-lift"
    UPDATE_FAILED = "update-failed"
    CLOCK_WRONG = "clock-wrong"
    DISK_FULL = "disk-full"
    BEACON = "beacon"
    EXFILTRATION = "exfiltration"
    SCAN = "scan"
    TUNNEL = "tunnel"
    NEW_COUNTRY = "new-country"
    UNUSUAL_HOURS = "unusual-hours"


class Result(StrEnum):
    """How an order ended."""

    IN_FORCE = "in_force"
    PARTIAL = "partial"
    REFUSED = "refused"
    EXPIRED = "expired"
    DONE = "done"
    FAILED = "failed"


class DesiredStatus(StrEnum):
    """What is in force of the desired state."""

    NONE = "none"
    IN_FORCE = "in_force"
    PARTIAL = "partial"
    EXPIRED = "expired"


class FilterHealth(StrEnum):
    """How the filter is."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


class Inbound(StrEnum):
    """What happens to unsolicited inbound traffic (codes.InboundMode, in words)."""

    OFF = "off"
    LEARN = "learn"
    REFUSE = "refuse"


class RuleAction(StrEnum):
    """What an exception of the department does."""

    ALLOW = "allow"
    OBSERVE = "observe"
    BLOCK = "block"


class Proto(StrEnum):
    """Protocol of an exception that holds for one port."""

    TCP = "tcp"
    UDP = "udp"


class Op(StrEnum):
    """Commands."""

    SELF_TEST = "self-test"
    DIAGNOSTICS = "diagnostics"
    RESTART = "restart"


class Service(StrEnum):
    """What the `restart` command may name. Not the data path: it has no process."""

    FILTER = "filter"
    LINK = "link"
    UPDATE = "update"
    PAGE = "page"


class Code(StrEnum):
    """Why an order was refused, in whole or in part; the code of an `ack` and of `state.desired.refused`.

    The first group refuses the whole document, the second one of its parts, the third is about commands and execution.
    """

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    SIGNATURE = "signature"
    FOREIGN = "foreign"
    OLDER = "older"
    EXPIRED = "expired"
    LIFETIME = "lifetime"  # expires more than 400 days after it was issued
    NOT_YET = "not-yet"  # issued in the future
    VERSION_JUMP = "version-jump"  # far above the version in force
    MASS_UNSIGNED = "mass-unsigned"  # more than 5 boxes without the offline second signature

    TEMPORARY_TOO_LONG = "temporary-too-long"  # isolation >= 2 or quarantine beyond 4 h
    ISOLATION_BUDGET = "isolation-budget"  # more than 4 h of isolation ordered online in 24 h
    LIFTED_LOCALLY = "lifted-locally"  # the commune lifted it less than 24 h ago
    PREFIX_TOO_SHORT = "prefix-too-short"
    NEVER_BLOCK = "never-block"  # the built-in list protects it
    PROTECTED_DEVICE = "protected-device"  # the gateway, the box itself
    UNKNOWN_DEVICE = "unknown-device"  # the pseudonym means nothing (any more)
    BAD_TARGET = "bad-target"
    PART_EXPIRED = "part-expired"
    UNKNOWN_FIELD = "unknown-field"  # written by a newer department; what holds it was left out
    TABLE_FULL = "table-full"

    REPLAYED = "replayed"
    UNKNOWN_OP = "unknown-op"
    BAD_ARGUMENT = "bad-argument"
    NO_CONSENT = "no-consent"
    FILTER_DOWN = "filter-down"
    FILTER_REFUSED = "filter-refused"
    NOT_SAVED = "not-saved"  # the box's disk refused to keep it
    TEST_FAILED = "test-failed"
    RATE_LIMITED = "rate-limited"
