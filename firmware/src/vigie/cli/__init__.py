"""The `vigie` command."""

from vigie.cli.main import main

__all__ = ["main"]
