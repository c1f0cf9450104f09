"""Errors of the contract. Their message says what, where (the field's path) and, where it helps, what is expected.

Both sides import them; each wraps or lets through as it sees fit. Nothing in the contract raises anything else on
hostile input.
"""

from __future__ import annotations


class ContractError(Exception):
    """Root: something does not follow the contract."""


class MessageError(ContractError):
    """A message is malformed. `field` is the path of the offending field (`alert.count`), "" for the whole."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}" if field else reason)


class TooLargeError(MessageError):
    """A message is larger than the contract allows; it was not parsed."""


class SchemaError(MessageError):
    """A message does not validate against its JSON Schema."""


class TopicError(ContractError):
    """A topic is not one of the contract's."""


class SignatureError(ContractError):
    """A signature is missing, wrong, of too few signers, or over another type of payload."""


class IdentityError(ContractError):
    """A box id, serial or claim id is malformed, or its check character is wrong (a typing error)."""
