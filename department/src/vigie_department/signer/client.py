"""Client of the signer: what console, ingest and publisher call.

Raises RefusedError (the signer said no; `code` is rule, rate, needs-second, needs-approval, ...) and UnavailableError
(it does not answer: worth trying again).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vigie_department.errors import RefusedError, UnavailableError
from vigie_department.signer.metadata import TargetInfo
from vigie_provisioning.errors import RemoteError, UnreachableError
from vigie_provisioning.jsonsocket import Client

#: code of the error -> what it means for the caller
NEEDS_SECOND = "needs-second"
NEEDS_APPROVAL = "needs-approval"
RATE = "rate"


@dataclass(frozen=True, slots=True)
class Signer:
    """The signer at a socket. Blocking; may be used by several threads."""

    path: Path
    timeout_s: float = 60.0

    def call(self, op: str, **params: Any) -> dict[str, Any]:
        """The result of any operation, as JSON."""
        try:
            return cast("dict[str, Any]", Client(self.path, timeout_s=self.timeout_s).call(op, **params))
        except RemoteError as e:
            raise RefusedError(f"signer: {e}", e.code) from e
        except UnreachableError as e:
            raise UnavailableError(f"signer: {e}") from e

    def sign_desired(self, payload: Mapping[str, Any], operator: str) -> bytes:
        """A signed envelope around a desired state (`Desired.to_dict()`)."""
        return str(self.call("sign-desired", payload=dict(payload), operator=operator)["envelope"]).encode()

    def sign_desired_envelope(self, envelope: bytes, operator: str) -> bytes:
        """The same for a mass order that keyholders have signed: their envelope with the steering signature added."""
        return str(self.call("sign-desired", envelope=envelope.decode(), operator=operator)["envelope"]).encode()

    def sign_command(self, payload: Mapping[str, Any], operator: str) -> bytes:
        """A signed envelope around a command (`Command.to_dict()`)."""
        return str(self.call("sign-command", payload=dict(payload), operator=operator)["envelope"]).encode()

    def tuf_publish(
        self,
        targets: Mapping[str, TargetInfo],
        operator: str,
        *,
        remove: Sequence[str] = (),
        descriptor: bytes | None = None,
        approval: str = "",
        revert: int | None = None,
    ) -> dict[str, bytes]:
        """Metadata that lists these targets besides the present ones; file name -> content, for `Repository.publish`.

        descriptor: content of base/current.json whenever that changes. approval: id of an approved emergency. revert:
        the released version whose content this is.
        """
        listed: dict[str, Any] = {}
        for path, info in targets.items():
            listed[path] = {"length": info.length, "sha256": info.sha256}
            if info.custom is not None:
                listed[path]["custom"] = dict(info.custom)
        params: dict[str, Any] = {"targets": listed, "remove": list(remove), "operator": operator}
        if descriptor is not None:
            params["descriptor"] = descriptor.decode()
        if approval:
            params |= {"emergency": True, "approval": approval}
        if revert is not None:
            params["revert"] = revert
        return files_of(self.call("tuf-publish", **params))

    def tuf_refresh(self) -> dict[str, bytes]:
        """Fresh timestamp, and whatever else is due."""
        return files_of(self.call("tuf-refresh"))

    def tuf_current(self) -> dict[str, bytes]:
        """What was signed last."""
        return files_of(self.call("tuf-current"))

    def log(self, after: int, limit: int = 100) -> list[dict[str, Any]]:
        """Records numbered above `after`."""
        return cast("list[dict[str, Any]]", self.call("log", after=after, limit=limit)["records"])

    def status(self) -> dict[str, Any]:
        """For `doctor`: {failed, records, expires {role: unix}, held [box], operators, releases, old_steering}."""
        return self.call("status")


def files_of(answer: Mapping[str, Any]) -> dict[str, bytes]:
    """The metadata files of an answer."""
    return {name: base64.b64decode(data) for name, data in answer["files"].items()}
