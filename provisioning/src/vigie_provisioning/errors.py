"""The error tree of provisioning.

Every error raised on purpose derives from `ProvisioningError`. Its message says what happened, where and what to do; a
command prints it as it is. `code` is the word that programs compare, also across a socket (`jsonsocket`); it is
append-only.
"""

from __future__ import annotations

from pathlib import Path


class ProvisioningError(Exception):
    """Root of the tree. `exit_code` is what a command returns after printing the message."""

    code: str = "failed"
    exit_code: int = 1


class UsageError(ProvisioningError):
    """The person or program asked for something that makes no sense."""

    code = "usage"
    exit_code = 2


class ConfigError(ProvisioningError):
    """The configuration has an unknown key, a wrong type or an impossible value."""

    code = "config"
    exit_code = 2


class DeniedError(ProvisioningError):
    """The kernel says that this user may not do that."""

    code = "denied"


class BusyError(ProvisioningError):
    """Too much at once; the same request is right a little later."""

    code = "busy"


class UnreachableError(ProvisioningError):
    """Nothing answers at a socket, or what answers breaks off or does not speak this protocol."""

    code = "unreachable"


class RemoteError(ProvisioningError):
    """The other end of a socket refused. `code` is its word, `str()` its message."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(ProvisioningError):
    """There is no such box, serial or file."""

    code = "not-found"


class StateError(ProvisioningError):
    """The thing exists but is not in a state that allows the request."""

    code = "state"


class CaError(ProvisioningError):
    """A key, certificate or request of the certification authority is missing, malformed or not allowed."""

    code = "ca"


class StoreError(ProvisioningError):
    """The authority's database cannot be opened, read or written."""

    code = "store"


class RegisterError(ProvisioningError):
    """A register of purchased boxes does not hold together. The message starts with `path:line:`.

    path: the file, or what the text was called; line: 1-based, or None when the whole is meant; reason: what is wrong
    and what to do.
    """

    code = "register"

    def __init__(self, path: Path | str, line: int | None, reason: str) -> None:
        self.path = Path(path)
        self.line = line
        self.reason = reason
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {reason}")
