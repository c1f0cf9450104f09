"""The error tree of the box.

Every error that Vigie raises on purpose derives from `VigieError`. Its message says what happened, where
(file, line, table, interface) and what to do about it: a command prints it as it is, without a traceback.
A class exists where a caller treats it apart from its neighbours, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path


class VigieError(Exception):
    """Root of the tree. `exit_code` is what a command returns after printing the message."""

    exit_code: int = 1


class UsageError(VigieError):
    """The person asked for something that makes no sense: an unknown device, a malformed address."""

    exit_code = 2


class SourceError(VigieError):
    """Something in a file that a person wrote. The message starts with `path:line:`.

    path: the file; line: 1-based, or None when the whole file is meant; reason: what is wrong with it.
    """

    def __init__(self, path: Path | str, line: int | None, reason: str) -> None:
        self.path = Path(path)
        self.line = line
        self.reason = reason
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {reason}")


class ConfigError(SourceError):
    """The configuration has an unknown key, a wrong type or an impossible value."""

    exit_code = 2


class FeedError(SourceError):
    """A feed is refused as a whole: unreadable, of no known shape, or too many bad lines."""


class ListError(SourceError):
    """A list shipped with Vigie (never-block, essential, protections) does not follow its own rules."""


class BaseError(VigieError):
    """The toxic base cannot be built, read or applied. The running base is unchanged."""


class BaseFormatError(BaseError):
    """A base file is corrupt, truncated, of another format or larger than allowed."""


class ImageError(BaseError):
    """A base image for the kernel is malformed, or does not fit its slot."""


class DecodeError(VigieError):
    """Bytes from the network are not what they claim to be. Expected on a real network: counted, never fatal."""


class KernelError(VigieError):
    """The kernel refused something. `errno` is its number, or 0 when there is none."""

    def __init__(self, message: str, errno: int = 0) -> None:
        self.errno = errno
        super().__init__(message)


class BpfError(KernelError):
    """Object, map, program or ring buffer."""


class LinkError(KernelError):
    """Interface, bridge, address or tc hook."""


class LayoutError(BpfError):
    """What is loaded in the kernel and this program do not agree on the memory layout."""


class JournalError(VigieError):
    """The journal cannot be opened or written. Filtering goes on without it."""


class DaemonError(VigieError):
    """`vigie filter run` is not there, does not answer, or refused the request."""


class HostError(VigieError):
    """A command or a file of the machine failed. The message quotes the command and its last output."""
