"""What can go wrong around the servers."""

from __future__ import annotations

from vigie_department.errors import DepartmentError


class BrokerError(DepartmentError):
    """A list for the broker is not what it should be, or the broker cannot be told. The old one stays in force."""
