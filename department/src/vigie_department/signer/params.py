"""Reading what callers of the signer send."""

from __future__ import annotations

import re
from typing import Any, Final

from vigie.contract.fields import Fields
from vigie_department.signer.errors import RuleError
from vigie_department.signer.metadata import TargetInfo

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
HEX_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
TARGET_MAX: Final = 256 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def text_of(f: Fields, name: str, most: int = 120) -> str:
    """A text that is not empty."""
    return f.text(name, most, least=1)


def read_target(path: str, value: Any) -> TargetInfo:
    """One target file as `tuf-publish` is told of it."""
    f = Fields(f"targets.{path[:80]}", value)
    custom = f.take("custom") if f.has("custom") else None
    f.skip("custom")
    if custom is not None and (not isinstance(custom, dict) or len(str(custom)) > 1000):
        raise RuleError(f"{path[:80]}: `custom` has to be a small object")
    info = TargetInfo(f.integer("length", 0, TARGET_MAX), f.text("sha256", 64, _SHA256), custom)
    f.done()
    return info
