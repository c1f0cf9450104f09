"""JSON Schemas (draft 2020-12) of every message: `schemas/<name>.json`, published with the documentation.

The typed classes and the schemas say the same thing twice on purpose: the box checks each row against the schema before
it leaves (the privacy rule), readers use the classes. Upward, `additionalProperties` is false everywhere.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from vigie.contract.errors import SchemaError
from vigie.contract.words import Kind

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

UPWARD: Final = tuple(kind.value for kind in Kind)
DOWNWARD: Final = ("desired", "command", "received", "announcement")
OTHER: Final = ("dsse", "base-current", "firmware")


@functools.cache
def load(name: str) -> dict[str, Any]:
    """The schema called `name` (a kind, an order, `announcement`, `dsse`, `base-current`, `firmware`)."""
    if name not in (*UPWARD, *DOWNWARD, *OTHER):
        raise SchemaError("", f"there is no schema `{name[:40]}`")
    text = resources.files("vigie.contract").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def validate(name: str, message: Any) -> None:
    """SchemaError, naming the field, when the decoded `message` does not follow its schema."""
    error = next(iter(sorted(_validator(name).iter_errors(message), key=lambda e: len(e.absolute_path))), None)
    if error is not None:
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
        raise SchemaError(f"{name}{path}", error.message[:200])


def is_valid(name: str, message: Any) -> bool:
    """Whether the decoded `message` follows its schema."""
    return bool(_validator(name).is_valid(message))


@functools.cache
def _validator(name: str) -> Validator:
    # Imported when first used: it costs 100 ms, and commands that only read topics should not pay it.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(load(name))
