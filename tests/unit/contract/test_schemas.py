"""The schemas themselves: well formed, closed upward, each upward field described, lists of words the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from vigie.contract import schema
from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.errors import SchemaError
from vigie.contract.words import Clock, Code, DesiredStatus, FilterHealth, Inbound, Kind, Result, Rule

ALL = (*schema.UPWARD, *schema.DOWNWARD, *schema.OTHER)


def objects(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object schema with properties."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield path, node
        for key, value in node.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from objects(value, f"{path}/{i}")


@pytest.mark.parametrize("name", ALL)
def test_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema.load(name))
    assert schema.load(name)["$id"] == f"urn:vigie:contract:v1:{name}"


@pytest.mark.parametrize("name", schema.UPWARD)
def test_closed_and_described(name: str) -> None:
    found = list(objects(schema.load(name)))
    assert found
    for path, node in found:
        assert node.get("additionalProperties") is False, f"{name}{path}: open"
        for field, inner in node["properties"].items():
            assert inner.get("description"), f"{name}{path}: `{field}` has no description"


@pytest.mark.parametrize("name", schema.UPWARD)
def test_texts_and_lists_are_bounded(name: str) -> None:
    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "string" and "enum" not in node:
                assert "maxLength" in node, f"{name}{path}: no maxLength"
                assert "pattern" in node, f"{name}{path}: no pattern"
            if node.get("type") == "array":
                assert "maxItems" in node, f"{name}{path}: no maxItems"
            if node.get("type") == "integer" and "enum" not in node:
                assert {"minimum", "maximum"} <= node.keys(), f"{name}{path}: no bounds"
            for key, value in node.items():
                walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for i, value in enumerate(node):
                walk(value, f"{path}/{i}")

    walk({k: v for k, v in schema.load(name).items() if k not in ("if", "then", "else")}, "")


def test_words_are_the_same() -> None:
    alert, state, ack = (schema.load(n)["properties"] if n != "state" else {} for n in ("alert", "state", "ack"))
    online = schema.load("state")["oneOf"][0]["properties"]
    assert alert["rule"]["enum"] == list(Rule)
    assert alert["clock"]["enum"] == list(Clock)
    assert alert["category"]["enum"] == [int(c) for c in Category]
    assert alert["direction"]["enum"] == [int(d) for d in Direction]
    assert alert["device_class"]["enum"] == [int(d) for d in DeviceClass]
    assert ack["result"]["enum"] == list(Result)
    assert ack["code"]["oneOf"][1]["enum"] == list(Code)
    assert online["filter"]["enum"] == list(FilterHealth)
    assert online["inbound"]["enum"] == list(Inbound)
    assert online["desired"]["properties"]["status"]["enum"] == list(DesiredStatus)
    assert not state


def test_error_names_the_place() -> None:
    with pytest.raises(SchemaError, match=r"metric\.frames\.in"):
        schema.validate("metric", {"v": 1, "boot": "0" * 32, "seq": 2, "prev": 1, "ts": 1, "clock": "ntp", "hour": 1,
                                   "blocked": {}, "observed": {}, "candidate": None, "drops": 0,
                                   "frames": {"in": -1, "out": 0}})  # fmt: skip
    with pytest.raises(SchemaError, match="no schema"):
        schema.validate("../../etc/passwd", {})


def test_kinds_have_schemas() -> None:
    assert set(schema.UPWARD) == {k.value for k in Kind}
