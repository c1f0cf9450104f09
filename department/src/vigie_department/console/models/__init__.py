"""Tables of the department."""

from vigie_department.console.models.fleet import Box, BoxStatus, Certificate, Claim, Commune
from vigie_department.console.models.orders import (
    BaseRelease,
    Command,
    DesiredState,
    EssentialService,
    Isolation,
    NeverBlock,
    PolicyException,
    Quarantine,
)
from vigie_department.console.models.records import Aside, AuditEntry, Cursor, Outgoing, Receipt
from vigie_department.console.models.reports import Alert, Counter, Diagnostic, ExceptionRequest, Observation
from vigie_department.console.models.rollouts import FirmwareOrder, Freeze, Rollout, RolloutBox

__all__ = [
    "Alert",
    "Aside",
    "AuditEntry",
    "BaseRelease",
    "Box",
    "BoxStatus",
    "Certificate",
    "Claim",
    "Command",
    "Commune",
    "Counter",
    "Cursor",
    "DesiredState",
    "Diagnostic",
    "EssentialService",
    "ExceptionRequest",
    "FirmwareOrder",
    "Freeze",
    "Isolation",
    "NeverBlock",
    "Observation",
    "Outgoing",
    "PolicyException",
    "Quarantine",
    "Receipt",
    "Rollout",
    "RolloutBox",
]
