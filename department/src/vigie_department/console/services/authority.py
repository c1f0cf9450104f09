"""The authority's admin socket, in the department's words and errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vigie_department.errors import RefusedError, UnavailableError
from vigie_provisioning import jsonsocket
from vigie_provisioning.errors import ProvisioningError, RemoteError


@dataclass(frozen=True, slots=True)
class Client:
    """RefusedError when the authority says no, UnavailableError when it does not answer."""

    path: Path
    timeout_s: float = 30.0

    def call(self, op: str, **params: Any) -> Any:
        """The result of an operation."""
        try:
            return jsonsocket.Client(self.path, timeout_s=self.timeout_s).call(op, **params)
        except RemoteError as error:
            raise RefusedError(f"authority: {error}", error.code) from error
        except ProvisioningError as error:
            raise UnavailableError(f"authority: {error}") from error

    def release(self, serial: str, operator: str, note: str) -> Any:
        """Let a serial in conflict enrol once without a valid join state."""
        return self.call("release", serial=serial, operator=operator[:64], note=note[:500])

    def revoke(self, box: str, operator: str, reason: str) -> Any:
        """Revoke a box's certificates and block its serial."""
        return self.call("revoke", box=box, operator=operator[:64], reason=reason[:500])

    def events(self, after: int, limit: int = 500) -> list[dict[str, Any]]:
        """What happened since the event numbered `after`, oldest first."""
        return cast("list[dict[str, Any]]", self.call("events", after=after, limit=limit))

    def status(self) -> dict[str, Any]:
        """For `doctor`."""
        return cast("dict[str, Any]", self.call("status"))
