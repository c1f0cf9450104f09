"""Errors of the link."""

from __future__ import annotations

from vigie.errors import VigieError
from vigie.link.codes import LinkCode


class BrokerError(VigieError):
    """No session with the broker, or no longer. `code` says why."""

    def __init__(self, code: LinkCode, message: str) -> None:
        self.code = code
        super().__init__(message)


class PacketError(VigieError):
    """The broker sent something that is not MQTT, or a packet larger than the contract allows."""
