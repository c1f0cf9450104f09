"""A YAML file read into a dataclass, for every service of the box.

An unknown key, a wrong type or a value out of range is a `ConfigError` that names the file and the line: the
document is composed into YAML nodes first (which carry marks), then each node is checked against the field it fills.
Fields may be bool, int, float, str, Path (absolute), Literal words, or dataclasses of such fields; anything else is a
`Special`, a function of the node.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import yaml

from vigie.errors import ConfigError

MAX_FILE_BYTES: Final = 64 * 1024

T = TypeVar("T")
_S = TypeVar("_S")
Special = Callable[[yaml.Node, str, str], Any]
"""(node, name of the file for errors, dotted name of the field) -> value. Raises ConfigError through `fail`."""
_NONE: Mapping[str, Any] = types.MappingProxyType({})


class Reader(Generic[T]):
    """Reads configurations of one kind.

    cls: the dataclass, every field of which has a default or must be in the file; program: whose configuration it is,
    for messages; limits: inclusive bounds of numbers by dotted name; special: readers of fields by dotted name.
    """

    def __init__(
        self,
        cls: type[T],
        program: str,
        limits: Mapping[str, tuple[float, float]] = _NONE,
        special: Mapping[str, Special] = _NONE,
    ) -> None:
        self._cls = cls
        self._program = program
        self._limits = limits
        self._special = special

    def load(self, path: Path) -> T:
        """The configuration of file `path`. Raises ConfigError."""
        try:
            with path.open("rb") as stream:
                raw = stream.read(MAX_FILE_BYTES + 1)
        except OSError as e:
            raise ConfigError(path, None, f"cannot be read ({e.strerror}); give another --config or none") from e
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError(path, None, f"larger than {MAX_FILE_BYTES} bytes, no configuration of {self._program}")
        return self.parse(raw, str(path))

    def parse(self, text: str | bytes, where: str) -> T:
        """The configuration written in `text`; `where` names it in errors."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            line = mark.line + 1 if mark is not None else None
            raise ConfigError(where, line, f"not valid YAML: {e.problem or e.context}") from e
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
            raise ConfigError(where, None, f"not valid YAML: {e}") from e
        if root is None:
            start = yaml.Mark(where, 0, 0, 0, "", 0)
            root = yaml.MappingNode("tag:yaml.org,2002:map", [], start, start)
        return self._section(self._cls, root, where, "")

    def _section(self, cls: type[_S], node: yaml.Node, where: str, prefix: str) -> _S:
        """An instance of dataclass `cls` from a mapping node."""
        what = f"`{prefix[:-1]}`" if prefix else "the configuration"
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, value_node in pairs(node, where, what):
            name = key.value
            if name not in hints:
                raise fail(key, where, f"unknown key `{prefix}{name}`; known: {', '.join(sorted(hints))}")
            if name in values:
                raise fail(key, where, f"`{prefix}{name}` is given twice")
            values[name] = self._value(hints[name], value_node, where, prefix + name)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # cls is a dataclass by contract
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if needed and field.name not in values:
                raise fail(node, where, f"`{prefix}{field.name}` is missing: it has no default, write it")
        return cls(**values)

    def _value(self, kind: Any, node: yaml.Node, where: str, name: str) -> Any:
        special = self._special.get(name)
        if special is not None:
            return special(node, where, name)
        if dataclasses.is_dataclass(kind):
            return self._section(typing.cast(type, kind), node, where, name + ".")
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            text = scalar(node, where, name, "one of " + ", ".join(choices), (str, bool))
            # YAML 1.1 reads a bare `off` as false; the word itself is what was written.
            word = node.value if isinstance(text, bool) else text
            if word not in choices:
                raise fail(node, where, f"`{name}` must be one of {', '.join(choices)}, not `{word}`")
            return word
        return self._plain(kind, node, where, name)

    def _plain(self, kind: Any, node: yaml.Node, where: str, name: str) -> Any:
        if kind is bool:
            return scalar(node, where, name, "true or false", (bool,))
        if kind is int:
            return self._bounded(scalar(node, where, name, "a whole number", (int,)), node, where, name)
        if kind is float:
            return float(self._bounded(scalar(node, where, name, "a number", (int, float)), node, where, name))
        text = scalar(node, where, name, "a text", (str,))
        if kind is Path:
            if not text.startswith("/"):
                raise fail(node, where, f"`{name}` must be an absolute path, not `{text}`")
            return Path(text)
        return text

    def _bounded(self, value: float, node: yaml.Node, where: str, name: str) -> float:
        low, high = self._limits.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high:
            raise fail(node, where, f"`{name}` must be between {low:g} and {high:g}, not {node.value}")
        return value


def fail(node: yaml.Node, where: str, message: str) -> ConfigError:
    """The error of a node: file, line, message."""
    return ConfigError(where, node.start_mark.line + 1, message)


def pairs(node: yaml.Node, where: str, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Keys and values of a mapping whose keys are words; `what` is how errors call it."""
    if not isinstance(node, yaml.MappingNode):
        raise fail(node, where, f"{what} must be a mapping of `key: value`")
    found = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise fail(key, where, f"a key of {what} must be a word")
        found.append((key, value))
    return found


def items(node: yaml.Node, where: str, name: str, most: int, expected: str) -> list[yaml.Node]:
    """The items of a list of at most `most`; `expected` says what the list holds."""
    if not isinstance(node, yaml.SequenceNode) or len(node.value) > most:
        raise fail(node, where, f"`{name}` must be a list of at most {most} {expected}")
    return list(node.value)


def scalar(node: yaml.Node, where: str, name: str, expected: str, types_: tuple[type, ...]) -> Any:
    """The value of a node that is a word or a number of one of `types_`; `expected` says it to people."""
    if not isinstance(node, yaml.ScalarNode):
        raise fail(node, where, f"`{name}` must be {expected}, not a list or a mapping")
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as e:
        raise fail(node, where, f"`{name}` must be {expected}, not `{node.value}`") from e
    if not isinstance(value, types_) or (isinstance(value, bool) and bool not in types_):
        raise fail(node, where, f"`{name}` must be {expected}, not `{node.value}`")
    return value
