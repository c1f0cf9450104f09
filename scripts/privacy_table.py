"""The table of every field that a box sends, from the JSON Schemas, into docs/privacy.md between two markers.

scripts/privacy_table.py            rewrites the table
scripts/privacy_table.py --check    says whether it is up to date (exit 1 when it is not)
scripts/privacy_table.py --print    prints it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vigie.contract import schema

PAGE: Final = Path(__file__).parents[1] / "docs" / "privacy.md"
BEGIN: Final = "<!-- fields: begin (made by scripts/privacy_table.py) -->"
END: Final = "<!-- fields: end -->"
_FRAME: Final = ("v", "boot", "seq", "ts", "clock", "prev")
_WORDS_SHOWN: Final = 8


class TableError(Exception):
    """The page or its markers are missing."""


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done or up to date, 1 not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true")
    group.add_argument("--print", action="store_true")
    args = parser.parse_args(argv)
    if args.print:
        print(table())
        return 0
    try:
        old = PAGE.read_text(encoding="utf-8")
        new = inserted(old, table())
    except (OSError, TableError) as e:
        print(f"{PAGE}: {e}", file=sys.stderr)
        return 1
    if new == old:
        return 0
    if args.check:
        print(f"{PAGE}: the table of fields is not up to date; run scripts/privacy_table.py", file=sys.stderr)
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


def inserted(page: str, text: str) -> str:
    """The page with the table between the markers."""
    head, begin, rest = page.partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not begin or not end:
        raise TableError(f"the markers `{BEGIN}` and `{END}` are missing")
    return f"{head}{BEGIN}\n\n{text}\n{END}{tail}"


def table() -> str:
    """All kinds, the frame that they share first."""
    parts = [_part("Every message", "The frame around every message.", _frame())]
    for name in schema.UPWARD:
        loaded = schema.load(name)
        parts.append(_part(f"`{name}`: {loaded['title']}", loaded["description"], list(_fields(loaded))))
    return "\n".join(parts)


def _part(title: str, text: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"### {title}", "", text.replace("<", "&lt;"), "", "| field | form | what it is |", "|---|---|---|"]
    lines += [f"| `{name}` | {_cell(form)} | {_cell(what)} |" for name, form, what in rows]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _frame() -> list[tuple[str, str, str]]:
    properties = schema.load("alert")["properties"]
    return [(name, _form(properties[name]), properties[name]["description"]) for name in _FRAME]


def _fields(loaded: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Fields of a kind without its frame; both forms of `state` in one list."""
    found: dict[str, list[dict[str, Any]]] = {}
    for form in loaded.get("oneOf", [loaded]):
        for name, inner in form["properties"].items():
            if name not in _FRAME:
                found.setdefault(name, []).append(inner)
    for name, forms in found.items():
        different = [f for i, f in enumerate(forms) if _form(f) not in [_form(e) for e in forms[:i]]]
        if len(different) == 1:
            yield from _field(name, forms[0])
        else:
            yield name, " or ".join(_form(f) for f in different), " ".join(f["description"] for f in different)


def _field(name: str, inner: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield name, _form(inner), inner["description"]
    for below, value in _object(inner).get("properties", {}).items():
        yield from _field(f"{name}.{below}", value)


def _object(inner: dict[str, Any]) -> dict[str, Any]:
    """The object in a field, null or not."""
    for choice in inner.get("oneOf", []):
        if "properties" in choice:
            return dict(choice)
    return inner


def _form(inner: dict[str, Any]) -> str:
    """Type and bounds in a few words."""
    if "oneOf" in inner:
        return " or ".join(_form(choice) for choice in inner["oneOf"])
    if "const" in inner:
        return f"always `{str(inner['const']).lower()}`"
    if "enum" in inner:
        words = [f"`{w}`" for w in inner["enum"]]
        if len(words) > _WORDS_SHOWN:
            return (
                f"one of {len(words)} fixed words, such as {', '.join(words[:3])}"
                if isinstance(inner["enum"][0], str)
                else f"number from a list of {len(words)}"
            )
        return f"one of {', '.join(words)}"
    match inner.get("type"):
        case "string":
            most = inner["maxLength"]
            return f"text, at most {most} characters" + (f", `{_pattern(inner)}`" if _pattern(inner) else "")
        case "integer":
            return f"whole number from {_number(inner['minimum'])} to {_number(inner['maximum'])}"
        case "array":
            return f"list of at most {inner['maxItems']}: {_form(inner['items'])}"
        case "object":
            value = inner.get("additionalProperties")
            if isinstance(value, dict):
                names = inner["propertyNames"]["pattern"].removeprefix("^").removesuffix("$(?!\\n)")
                return f"at most {inner['maxProperties']} entries, names `{names}`: {_form(value)}"
            return "the fields below"
        case other:
            return {"null": "nothing", "boolean": "yes or no", "number": "number"}[str(other)]


def _pattern(inner: dict[str, Any]) -> str:
    """The pattern of a text that has a form of its own, not only "no control characters"."""
    text: str = inner["pattern"]
    return text.removeprefix("^(?:").removesuffix(")$(?!\\n)") if text.startswith("^(?:") else ""


def _number(value: int) -> str:
    return {2**53 - 1: "2^53 - 1", 2**40: "2^40"}.get(value, str(value))


if __name__ == "__main__":
    sys.exit(main())
