"""Reading one JSON object field by field, so that an error names the field and nothing goes unread.

f = Fields("alert", data)
count = f.integer("count", 1, 1000)
f.done()          # refuses what was not read; `f.rest()` instead returns the names
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

from vigie.contract.errors import MessageError
from vigie.contract.strictjson import INTEGER_MAX

E = TypeVar("E", bound=StrEnum)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Fields:
    """The fields of the object at path `where`. Booleans are never taken for integers."""

    __slots__ = ("_data", "_left", "where")

    def __init__(self, where: str, data: object) -> None:
        if not isinstance(data, dict):
            raise MessageError(where, "an object is expected")
        self.where = where
        self._data: dict[str, Any] = data
        self._left = set(data)

    def path(self, name: str) -> str:
        """Path of a field of this object."""
        return f"{self.where}.{name}"

    def fail(self, name: str, reason: str) -> NoReturn:
        """Refuses a field."""
        raise MessageError(self.path(name), reason)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(name) is not None

    def null(self, name: str) -> bool:
        """Reads the field as null when it is; it must be there."""
        if name not in self._data:
            self.fail(name, "missing")
        if self._data[name] is None:
            self._left.discard(name)
            return True
        return False

    def skip(self, name: str) -> None:
        """Counts the field as read, whether it is there or not."""
        self._left.discard(name)

    def take(self, name: str) -> Any:
        """The raw value; MessageError when there is none."""
        if name not in self._data:
            self.fail(name, "missing")
        self._left.discard(name)
        return self._data[name]

    def integer(self, name: str, low: int = 0, high: int = INTEGER_MAX) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(name, f"a whole number from {low} to {high} is expected")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(name, "a number is expected")
        if not low <= value <= high:
            self.fail(name, f"a number from {low:g} to {high:g} is expected")
        return float(value)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            self.fail(name, "true or false is expected")
        return value

    def text(self, name: str, most: int, pattern: re.Pattern[str] | None = None, least: int = 0) -> str:
        """A text of `least` to `most` characters without control characters, matching `pattern` whole."""
        value = self.take(name)
        if not isinstance(value, str) or not least <= len(value) <= most or _CONTROL.search(value):
            self.fail(name, f"a text of {least} to {most} characters without control characters is expected")
        if pattern is not None and pattern.fullmatch(value) is None:
            self.fail(name, f"{value[:80]!r} does not match {pattern.pattern}")
        return value

    def word(self, name: str, words: type[E]) -> E:
        """One of a closed list of words."""
        value = self.take(name)
        try:
            return words(value)
        except ValueError:
            self.fail(name, f"{str(value)[:40]!r} is not one of: {', '.join(words)}")

    def one_of(self, name: str, values: Collection[int]) -> int:
        """One of a closed list of whole numbers."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or value not in values:
            self.fail(name, f"one of {sorted(values)} is expected")
        return value

    def constant(self, name: str, wanted: int) -> None:
        """A field with one possible whole number (the version of a format)."""
        self.one_of(name, (wanted,))

    def object(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self.path(name), self.take(name))

    def items(self, name: str, most: int) -> list[Any]:
        """A list of at most `most` items, raw."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > most:
            self.fail(name, f"a list of at most {most} items is expected")
        return value

    def objects(self, name: str, most: int) -> Iterator[Fields]:
        """A list of at most `most` objects."""
        for i, item in enumerate(self.items(name, most)):
            yield Fields(f"{self.path(name)}[{i}]", item)

    def texts(
        self, name: str, most: int, length: int, pattern: re.Pattern[str] | None = None, least: int = 0
    ) -> tuple[str, ...]:
        """A list of at most `most` texts of `least` to `length` characters."""
        out = []
        for i, item in enumerate(self.items(name, most)):
            out.append(Fields(self.path(name), {f"[{i}]": item}).text(f"[{i}]", length, pattern, least))
        return tuple(out)

    def words(self, name: str, words: type[E], most: int) -> tuple[E, ...]:
        """A list of at most `most` words of a closed list."""
        path = self.path(name)
        return tuple(
            Fields(path, {f"[{i}]": item}).word(f"[{i}]", words) for i, item in enumerate(self.items(name, most))
        )

    def counts(self, name: str, keys: re.Pattern[str], most: int) -> dict[str, int]:
        """An object of at most `most` {key: count >= 0}."""
        inner = self.object(name)
        if len(inner._data) > most:
            self.fail(name, f"at most {most} entries are expected")
        for key in inner._data:
            if keys.fullmatch(key) is None:
                self.fail(name, f"the key {key[:80]!r} does not match {keys.pattern}")
        return {key: inner.integer(key) for key in inner._data}

    def rest(self) -> tuple[str, ...]:
        """Names that were not read, sorted."""
        return tuple(sorted(self._left))

    def done(self) -> None:
        """Refuses an object with a name that was not read: unknown fields do not travel upward."""
        if self._left:
            name = min(self._left)
            self.fail(name[:40], "unknown field")
