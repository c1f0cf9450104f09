"""The printed guide says what the guardian's lamps say, for a person who knows nothing of networks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts import guide


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the PDF."""
    contact = guide.Contact("DNUM 99", "01 23 45 67 89", "0 800 00 00 00")
    pdf = guide.write(tmp_path_factory.mktemp("guide"), contact)
    done = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True)
    return done.stdout


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_every_case_is_drawn(printed: str) -> None:
    for case in ("déjà un switch", "Pas de switch", "prises réseau au mur", "CPL", "Le Wi-Fi", "Retirez-le",
                 "décodeur TV", "boîtier Vigie", "câble bleu", "câble jaune", "le raccord", "borne Wi-Fi"):  # fmt: skip
        assert squeezed(case) in squeezed(printed), f"{case!r} is not in the guide:\n{printed}"


def test_who_to_call_is_the_departments(printed: str) -> None:
    for text in ("DNUM 99", "01 23 45 67 89", "0 800 00 00 00", "17cyber.gouv.fr"):
        assert squeezed(text) in squeezed(printed), printed


def test_without_contact_there_are_lines_to_fill_in() -> None:
    assert guide.html(guide.Contact()).count("………") >= 3


def test_the_legend_is_the_guardians_own() -> None:
    page = guide.html(guide.Contact())
    legend = guide.read_legend()
    rows = [row for rows in legend.lamps.values() for row in rows]
    assert len(rows) > 20
    for row in rows:
        assert row.text.replace("'", "&#39;") in page, row
    assert page.count('<span class="flash ') == sum(row.flashes for row in rows)


@pytest.mark.parametrize("damage", [{"lamps": 3}, {"lamps": [{"fr": "x"}]}, {"explanation": {}}])
def test_a_damaged_legend_is_named(tmp_path: Path, damage: dict[str, object]) -> None:
    file = tmp_path / "legend.json"
    file.write_text(json.dumps(json.loads(guide.LEGEND.read_text("utf-8")) | damage))
    with pytest.raises(SystemExit, match=r"legend\.json: not a legend"):
        guide.read_legend(file)


def test_an_unknown_colour_is_named(tmp_path: Path) -> None:
    file = tmp_path / "legend.json"
    file.write_text(guide.LEGEND.read_text("utf-8").replace('"green", "flashes"', '"blue", "flashes"'))
    with pytest.raises(SystemExit, match="`blue` is no colour"):
        guide.read_legend(file)
