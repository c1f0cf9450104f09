"""Errors of enrolment."""

from __future__ import annotations

from vigie.errors import VigieError


class EnrolError(VigieError):
    """Something about the box's identity or its certificate."""


class NotEnrolled(EnrolError):
    """There is no operational certificate in force: the department does not know this box yet, or no longer."""


class IdentityError(EnrolError):
    """The identity partition is missing, unreadable, or does not hold together. Only the factory bench repairs it."""


class ChainError(EnrolError):
    """A certificate in a reply does not lead to the department's roots, or is not what it should be."""
