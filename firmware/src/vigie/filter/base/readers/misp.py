"""MISP: events with attributes, and warning lists (which serve as allow lists)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink
from vigie.filter.base.readers.tokens import Indicator, Unusable, classify

_SINGLE: Final = frozenset({"ip-src", "ip-dst", "domain", "hostname", "url"})
_PORTED: Final = frozenset({"ip-src|port", "ip-dst|port", "hostname|port"})
_DEPTH: Final = 40


class JsonError(ValueError):
    """Not JSON, or nested deeper than any event is."""


def load(data: bytes) -> object:
    """The document. JsonError (a ValueError) when it is not one."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise JsonError("nested too deep") from error
    except ValueError as error:
        raise JsonError(str(error)) from error


class _Lines:
    """Line of each value, found by looking for it in the text from where the last one was."""

    def __init__(self, data: bytes) -> None:
        self._text = data
        self._at = 0
        self._line = 1

    def of(self, value: str) -> int:
        """Line of the next place that holds the value; the last line known when it is written otherwise (escapes)."""
        found = self._text.find(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), self._at)
        if found >= 0:
            self._line += self._text.count(b"\n", self._at, found)
            self._at = found + 1
        return self._line


def _attributes(node: object, depth: int = 0) -> Iterator[dict[str, object]]:
    """Every attribute of an event or a list of events, those of its objects included, in the order of the text."""
    if depth > _DEPTH:
        return
    if isinstance(node, list):
        for item in node:
            yield from _attributes(item, depth + 1)
    elif isinstance(node, dict):
        if isinstance(node.get("type"), str) and "value" in node:
            yield node
            return
        for key, value in node.items():
            if key in ("Event", "Attribute", "Object", "response"):
                yield from _attributes(value, depth + 1)


def is_event(document: object) -> bool:
    """True for a MISP event, a list of them, or the answer of an attribute search."""
    if isinstance(document, list):
        return bool(document) and is_event(document[0])
    return isinstance(document, dict) and any(key in document for key in ("Event", "Attribute", "response"))


def is_warninglist(document: object) -> bool:
    """True for a MISP warning list."""
    return isinstance(document, dict) and isinstance(document.get("list"), list) and "type" in document


def read_event(data: bytes, options: Options, sink: Sink) -> None:
    """Network attributes of MISP events. Those marked as not for detection (`to_ids` false) or deleted are skipped."""
    where = _Lines(data)
    sink.tally.lines += data.count(b"\n") + (not data.endswith(b"\n"))
    tokens: list[str] = []
    numbers: list[int] = []
    for attribute in _attributes(load(data)):
        kind, value = str(attribute["type"]), attribute["value"]
        if not isinstance(value, str) or not value.strip():
            sink.bad(where.of(str(value)), str(value), "attribute without a text value")
            continue
        line = where.of(value)
        if attribute.get("deleted") is True:
            sink.skip(line, value, "deleted attribute")
        elif attribute.get("to_ids") is False:
            sink.skip(line, value, "attribute not meant for detection (to_ids is false)")
        elif kind in _SINGLE:
            tokens.append(value.strip())
            numbers.append(line)
        elif kind in _PORTED:
            sink.add(_ported(value), line, value)
        elif kind == "domain|ip":
            host, _, address = value.partition("|")
            tokens += [host.strip(), address.strip()]
            numbers += [line, line]
        else:
            sink.skip(line, value, f"attribute of type {kind[:40]}")
    sink.tokens(tokens, numbers)


def _ported(value: str) -> Indicator:
    host, bar, port = value.strip().partition("|")
    if not bar:
        return Unusable("no port after the host")
    return classify(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def read_warninglist(data: bytes, options: Options, sink: Sink) -> None:
    """Entries of a warning list. In `hostname` lists a leading dot means "and what is below", as everywhere here."""
    document = load(data)
    if not isinstance(document, dict) or not isinstance(document.get("list"), list):
        raise JsonError("a warning list is an object with a `list`")
    where = _Lines(data)
    sink.tally.lines += data.count(b"\n") + (not data.endswith(b"\n"))
    kind = document.get("type")
    tokens: list[str] = []
    numbers: list[int] = []
    for value in document["list"]:
        text = str(value).strip()
        line = where.of(str(value))
        if kind not in ("cidr", "hostname", "string"):
            sink.skip(line, text, f"entry of a list of type {str(kind)[:40]}")
        elif not text:
            sink.bad(line, text, "empty entry")
        else:
            tokens.append(text.removeprefix("."))
            numbers.append(line)
    sink.tokens(tokens, numbers)
