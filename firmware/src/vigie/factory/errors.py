"""Refusals of the factory program: a word for the station, a sentence for its log."""

from __future__ import annotations

from vigie.contract.bench import Code
from vigie.errors import HostError


class FactoryError(HostError):
    """Something that was asked for cannot be done. code: the station's word for it."""

    def __init__(self, code: Code, detail: str) -> None:
        self.code = code
        super().__init__(detail)
