"""The table of docs/privacy.md is the schemas', and says something of every field."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import privacy_table
from vigie.contract import schema


def test_page_is_up_to_date(repo_root: Path) -> None:
    page = (repo_root / "docs" / "privacy.md").read_text(encoding="utf-8")
    assert privacy_table.inserted(page, privacy_table.table()) == page, "run scripts/privacy_table.py"


def test_every_field_is_in_the_table() -> None:
    text = privacy_table.table()
    for name in schema.UPWARD:
        loaded = schema.load(name)
        for form in loaded.get("oneOf", [loaded]):
            for field in form["properties"]:
                assert f"| `{field}` |" in text, f"{name}.{field}"


def test_missing_markers_are_an_error() -> None:
    with pytest.raises(privacy_table.TableError):
        privacy_table.inserted("# Privacy", "table")
