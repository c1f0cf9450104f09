"""YAML written by people, read strictly: every value keeps the line it is on, so that an error can name it.

Only scalars, lists and mappings: no anchors, no tags, no duplicate keys. Pure: text in, values or ListError out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import yaml

from vigie.errors import ListError, SourceError

MAX_BYTES: Final = 4 << 20
_KINDS: Final = ("str", "int", "bool", "null", "float", "map", "seq", "timestamp")
_BASIC_TAGS: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in _KINDS)


@dataclass(frozen=True, slots=True)
class Value:
    """A YAML node with the file and line it came from; the accessors check its type."""

    node: yaml.Node
    path: Path
    error: type[SourceError] = ListError

    @property
    def line(self) -> int:
        """Line in the file, from 1."""
        return int(self.node.start_mark.line) + 1

    def fail(self, reason: str) -> NoReturn:
        """Raise the file's error class for this line."""
        raise self.error(self.path, self.line, reason)

    def _wrap(self, node: yaml.Node) -> Value:
        return Value(node, self.path, self.error)

    def mapping(self, required: AbstractSet[str], optional: AbstractSet[str] = frozenset()) -> dict[str, Value]:
        """A mapping with all the required keys and none beyond the optional ones."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail("a mapping (key: value) is expected here")
        done: dict[str, Value] = {}
        for key_node, value_node in self.node.value:
            key = self._wrap(key_node)
            name = key.text()
            if name in done:
                key.fail(f"{name!r} is given twice")
            if name not in required and name not in optional:
                key.fail(f"unknown key {name!r}; known: {', '.join(sorted(required | optional))}")
            done[name] = self._wrap(value_node)
        for name in sorted(required):
            if name not in done:
                self.fail(f"{name!r} is missing")
        return done

    def items(self) -> Iterator[Value]:
        """Elements of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail("a list is expected here")
        return (self._wrap(node) for node in self.node.value)

    def text(self) -> str:
        """A non-empty text. A bare number or yes/no is not one: people must quote it."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != "tag:yaml.org,2002:str":
            self.fail("a text is expected here")
        value = str(self.node.value).strip()
        if not value:
            self.fail("the text is empty")
        return value

    def number(self, low: int, high: int) -> int:
        """A whole number of low..high."""
        text = str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""
        if self.node.tag != "tag:yaml.org,2002:int" or not text.isascii() or not text.isdigit() or len(text) > 18:
            self.fail("a whole number is expected here")
        value = int(text)
        if not low <= value <= high:
            self.fail(f"{value} is not in {low}..{high}")
        return value

    def is_number(self) -> bool:
        """True for a bare whole number."""
        return bool(self.node.tag == "tag:yaml.org,2002:int")

    def truth(self) -> bool:
        """true or false."""
        text = str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""
        if text not in ("true", "false"):
            self.fail("true or false is expected here")
        return text == "true"


def parse(text: bytes, path: Path, error: type[SourceError] = ListError) -> Value:
    """The document of a YAML file. Raises `error`."""
    if len(text) > MAX_BYTES:
        raise error(path, None, f"more than {MAX_BYTES} bytes: refused")
    try:
        decoded = text.decode("utf-8-sig")
        for event in yaml.parse(decoded, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                mark = event.start_mark
                raise error(path, mark.line + 1 if mark else None, "anchors and aliases are not used here")
        node = yaml.compose(decoded, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as problem:
        raise error(path, text.count(b"\n", 0, problem.start) + 1, "not UTF-8") from problem
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        what = f"not YAML: {problem.problem or problem.context}"
        raise error(path, mark.line + 1 if mark else None, what) from problem
    except (yaml.YAMLError, RecursionError) as problem:
        raise error(path, None, f"not YAML: {problem}") from problem
    if node is None:
        raise error(path, None, "the file is empty")
    for found in _nodes(node):
        if found.tag not in _BASIC_TAGS:
            raise error(path, found.start_mark.line + 1, f"tag {found.tag} is not used here")
    return Value(node, path, error)


def load(path: Path, error: type[SourceError] = ListError) -> Value:
    """Read and parse a file. Raises `error`."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as problem:
        raise error(path, None, f"cannot be read: {problem.strerror or problem}") from problem
    return parse(text, path, error)


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                todo += [key, value]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value
