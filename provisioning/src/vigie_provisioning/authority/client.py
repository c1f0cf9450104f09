"""The authority's admin socket, from Python: for the console and the commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigie_provisioning.jsonsocket import Client

EVENTS_PAGE = 1000
BOXES_PAGE = 5000


@dataclass(slots=True, frozen=True)
class Admin:
    """One method for each operation; results are what `operations` documents.

    Raises RemoteError (its `code`: not-found, state, register, usage, denied, ...) and UnreachableError.
    """

    path: Path
    timeout_s: float = 60.0

    def boxes(self) -> list[dict[str, Any]]:
        """Every box, by serial.

        Names: serial, box, model, lot, claim_id, image, registered, seq, block, block_note, released, conflict (when, 0
        for none), software, seen, active_until, pending_until, and `state`: expected, pending, active, lapsed, blocked,
        revoked, quarantined or decommissioned.
        """
        return list(self._boxes())

    def show(self, name: str) -> dict[str, Any]:
        """A box by serial or id: as in `boxes`, with public (hex), certificates, events (newest first)."""
        return self._dict("show", box=name)

    def import_register(self, text: str, name: str = "register", *, new: bool = False) -> dict[str, Any]:
        """{register, added, known, torn}; RemoteError `register` names the line."""
        return self._dict("import", register=text, name=name, new=new)

    def release(self, name: str, operator: str, note: str = "") -> dict[str, Any]:
        """Lets a box (serial or id) enrol once without the right join state, and lifts any block."""
        return self._dict("release", box=name, operator=operator, note=note)

    def revoke(self, name: str, operator: str, reason: str = "") -> dict[str, Any]:
        """Revokes what a box has and blocks it; the revocation list is out on return."""
        return self._dict("revoke", box=name, operator=operator, reason=reason)

    def block(self, name: str, operator: str, note: str = "") -> dict[str, Any]:
        """The box may not speak until unblocked."""
        return self._dict("block", box=name, operator=operator, note=note)

    def unblock(self, name: str, operator: str, note: str = "") -> dict[str, Any]:
        """Lifts `block` or `revoke`."""
        return self._dict("unblock", box=name, operator=operator, note=note)

    def events(self, after: int = 0, limit: int = EVENTS_PAGE) -> list[dict[str, Any]]:
        """[{id, at, kind, serial, box, detail}] with id > after, oldest first."""
        result: list[dict[str, Any]] = self._call("events", after=after, limit=limit)
        return result

    def unknown(self, limit: int = 200) -> list[dict[str, Any]]:
        """[{serial, why: unknown|signature, first, last, count, source}], last seen first."""
        result: list[dict[str, Any]] = self._call("unknown", limit=limit)
        return result

    def crl(self) -> str:
        """Publishes the revocation lists; PEM."""
        return str(self._call("crl"))

    def status(self) -> dict[str, Any]:
        """Counts, and when keys end."""
        return self._dict("status")

    def issue_server(self, names: Sequence[str], csr: str, days: int | None = None) -> str:
        """A server's certificate chain (PEM) for a request (base64 of its DER). Root or the authority's user only."""
        more = {} if days is None else {"days": days}
        return str(self._dict("issue-server", names=list(names), csr=csr, **more)["chain"])

    def issue_client(self, csr: str) -> str:
        """The certificate chain of the department's MQTT client. Root or the authority's user only."""
        return str(self._dict("issue-client", csr=csr)["chain"])

    def _boxes(self) -> Iterator[dict[str, Any]]:
        after = ""
        while page := self._call("boxes", after=after, limit=BOXES_PAGE):
            yield from page
            after = page[-1]["serial"]

    def _dict(self, op: str, **params: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._call(op, **params)
        return result

    def _call(self, op: str, **params: Any) -> Any:
        return Client(self.path, self.timeout_s).call(op, **params)
