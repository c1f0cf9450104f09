"""Kernel settings under /proc/sys. Those below `net` are the calling thread's network namespace's."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vigie.errors import HostError


class Sysctl(Protocol):
    """Reads and writes settings named by their path, such as `net/ipv4/ip_forward`."""

    def get(self, name: str) -> str | None:
        """Value without the final newline, None when the kernel has no such setting."""

    def set(self, name: str, value: str) -> None:
        """Write a setting that exists; HostError when it does not or is refused."""


class ProcSysctl:
    """The kernel's settings, below `root`."""

    def __init__(self, root: Path = Path("/proc/sys")) -> None:
        self._root = root

    def get(self, name: str) -> str | None:
        """Value, None when there is no such setting."""
        try:
            with (self._root / name).open(encoding="ascii") as f:
                return f.read(4096).strip()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise HostError(f"setting {name} cannot be read: {e.strerror}") from e

    def set(self, name: str, value: str) -> None:
        """Write it, unless it has that value already."""
        if self.get(name) == value:
            return
        try:
            (self._root / name).write_text(value, encoding="ascii")
        except OSError as e:
            raise HostError(f"setting {name} cannot be set to {value}: {e.strerror}") from e


class ManualSysctl:
    """Settings kept in a dictionary."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = dict(values or {})

    def get(self, name: str) -> str | None:
        """Value, None when there is no such setting."""
        return self.values.get(name)

    def set(self, name: str, value: str) -> None:
        """Write a setting that exists."""
        if name not in self.values:
            raise HostError(f"setting {name} cannot be set to {value}: no such setting")
        self.values[name] = value


def set_if_present(sysctl: Sysctl, name: str, value: str) -> bool:
    """Write a setting where the kernel has it; False where it has not (a module that is not loaded)."""
    if sysctl.get(name) is None:
        return False
    sysctl.set(name, value)
    return True
