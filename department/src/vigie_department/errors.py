"""The error tree of the department's side.

A message says what happened, where, and what to do: a command prints it as it is. A class exists where a caller
treats it apart from its neighbours, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path


class DepartmentError(Exception):
    """Root of the tree. `exit_code` is what a command returns after printing the message."""

    exit_code: int = 1


class UsageError(DepartmentError):
    """The person asked for something that makes no sense: an unknown box, a malformed address."""

    exit_code = 2


class ConfigError(DepartmentError):
    """The configuration file has an unknown key, a wrong type or an impossible value. The message names the key.

    path: the file; key: dotted (`broker.address`), or None when the whole file is meant; reason: what is wrong with it.
    """

    exit_code = 2

    def __init__(self, path: Path | str, key: str | None, reason: str) -> None:
        self.path = Path(path)
        self.key = key
        self.reason = reason
        where = f"{path}: {key}" if key is not None else f"{path}"
        super().__init__(f"{where}: {reason}")


class StateError(DepartmentError):
    """An order makes no sense in the present state: a box that is already revoked, a commune that has a box."""


class RefusedError(DepartmentError):
    """A service with a rule of its own (signer, authority) said no. `code` is its machine-readable reason."""

    def __init__(self, message: str, code: str = "") -> None:
        self.code = code
        super().__init__(message)


class UnavailableError(DepartmentError):
    """Something this program needs does not answer: database, broker, signer, authority. Worth trying again."""


class PublishError(DepartmentError):
    """A base or a TUF repository cannot be built or published. What boxes fetch is unchanged."""


class BackupError(DepartmentError):
    """A backup cannot be made, read or put back. Nothing was changed unless the message says so."""
