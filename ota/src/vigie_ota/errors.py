"""The error tree of releases. A message says what, where and what to do; the command prints it as it is."""

from __future__ import annotations


class OtaError(Exception):
    """Root of the tree. `exit_code` is what the command returns after printing the message."""

    exit_code: int = 1


class UsageError(OtaError):
    """The person asked for something that makes no sense."""

    exit_code = 2


class ToolError(OtaError):
    """A program that is needed is missing, or failed. The message holds its own words."""


class BundleError(OtaError):
    """A bundle, or what one should be made of, is malformed, damaged, or for something else than it claims."""


class SignatureError(BundleError):
    """A bundle's signature is missing, wrong, or by a certificate that boxes do not trust."""


class ReleaseError(OtaError):
    """A release contradicts what is published, its bundles, or itself. Nothing was published."""


class CeremonyError(OtaError):
    """A request to keyholders, or their signatures, do not hold together. Nothing was signed or published."""
