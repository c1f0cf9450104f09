"""French is the source, English is complete, and a missing catalogue shows French."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vigie import i18n

CATALOGUES = Path(__file__).parents[3] / "scripts" / "catalogues.py"


@pytest.fixture
def french() -> Iterator[None]:
    """French during the test, whatever the environment says; what was there afterwards."""
    before = i18n.use("fr")
    yield
    i18n.use(before)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "fr"),
        ({"LANG": "C.UTF-8"}, "fr"),
        ({"LANG": "POSIX"}, "fr"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANGUAGE": "en:fr", "LANG": "fr_FR.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "en_US"}, "en"),
        ({"VIGIE_LANG": "fr", "LANG": "en_US.UTF-8"}, "fr"),
        ({"LANG": "ca_ES@valencia"}, "ca"),
    ],
)
def test_language_of_the_environment(environ: dict[str, str], expected: str) -> None:
    assert i18n.language(environ) == expected


@pytest.mark.parametrize("code", ["fr", "xx"])
def test_unknown_language_shows_the_source(code: str, french: None) -> None:
    i18n.use(code)
    assert i18n._("Bloqué") == "Bloqué"


@pytest.mark.parametrize(("n", "expected"), [(0, "appareil"), (1, "appareil"), (2, "appareils"), (-1, "appareil")])
def test_french_counts_zero_as_one(n: int, expected: str, french: None) -> None:
    assert i18n.ngettext("appareil", "appareils", n) == expected


@pytest.mark.slow
def test_every_text_is_translated() -> None:
    done = subprocess.run([sys.executable, CATALOGUES, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
