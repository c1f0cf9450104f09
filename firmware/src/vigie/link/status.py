"""Where the link stands, in a file for the page and `vigie link status`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from vigie.contract.upward import State
from vigie.link.codes import LinkCode
from vigie.link.store import Store

log = logging.getLogger("vigie.link")


class StatusFile:
    """Written when something in it changed. `now`: Unix seconds."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self.value: dict[str, Any] = {"v": 1}
        self.set(LinkCode.CONNECTING, "")

    def set(self, code: LinkCode, detail: str, **more: Any) -> None:
        """A new code, or the same for another reason. `since` is when the code began."""
        if code.value != self.value.get("code"):
            (log.info if code in (LinkCode.CONNECTED, LinkCode.STOPPED) else log.warning)("%s %s", code.value, detail)
            self.value["since"] = int(self._now())
        self._write({"code": code.value, "detail": detail[:300], **more})

    def describe(self, figures: dict[str, Any], state: State | None) -> None:
        """Figures of the outbox, and what was last told to the department."""
        more: dict[str, Any] = {"outbox": figures}
        if state is not None:
            more["desired"] = state.fields()["desired"]
        self._write(more)

    def _write(self, changes: dict[str, Any]) -> None:
        if any(self.value.get(name, self) != value for name, value in changes.items()):
            self.value.update(changes)
            self._store.save_status(self.value)
