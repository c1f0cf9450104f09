"""The printed guide says what the guardian's lamps say, for a person who knows nothing of networks."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import guide


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contact = guide.Contact("DNUM 99", "01 23 45 67 89", "0 800 00 00 00")
    return guide.write(tmp_path_factory.mktemp("guide"), contact)


def text_of(pdf: Path, *options: str) -> str:
    done = subprocess.run(["pdftotext", *options, str(pdf), "-"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def printed(pdf: Path) -> str:
    """The text of the PDF."""
    return text_of(pdf, "-layout")


def squeezed(text: str) -> str:
    return "".join(text.replace("'", "\u2019").split())


def test_every_case_is_drawn(printed: str) -> None:
    for case in ("déjà un switch", "Pas de switch", "prises réseau au mur", "CPL",
                 "Le Wi-Fi", "décodeur TV", "boîtier Vigie", "câble bleu", "câble jaune", "le raccord", "borne Wi-Fi",
                 "NON protégé", "Le boîtier est éteint : retirez-le et reliez les deux câbles"):  # fmt: skip
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
        assert guide.typeset(f"<td>{row.text}</td>") in page, row
    assert page.count('<span class="flash ') == sum(row.flashes for row in rows)


def test_the_legend_can_be_read_in_black_and_white(printed: str) -> None:
    """Every look in words, as often as the legend has it."""
    wanted = Counter(squeezed(row.look) for rows in guide.read_legend().lamps.values() for row in rows)
    assert {"vert,fixe", "9orange", "2verts", "1rouge", "éteint"} <= set(wanted)
    for look, count in wanted.items():
        assert squeezed(printed).count(look) >= count, look


def words(pdf: Path) -> Iterator[list[tuple[float, float, float, float, str]]]:
    """Of each page: (left, top, right, bottom, word) in points."""
    pattern = re.compile(r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">(.*?)</word>')
    for page in text_of(pdf, "-bbox").split("<page ")[1:]:
        yield [(*map(float, found[:4]), found[4]) for found in pattern.findall(page)]


def test_nothing_is_cut_and_no_words_lie_upon_each_other(pdf: Path) -> None:
    width, height = 595.3, 841.9
    pages = list(words(pdf))
    assert len(pages) == 6
    for page in pages:
        assert len(page) > 40
        for one in page:
            assert one[0] > 30 and one[2] < width - 30 and one[1] > 30 and one[3] < height - 15, one
        for one, other in itertools.combinations(page, 2):
            across = min(one[2], other[2]) - max(one[0], other[0])
            down = min(one[3], other[3]) - max(one[1], other[1])
            assert not (across > 0.5 and down > 3), (one, other)


def test_french_typography(printed: str) -> None:
    """No line begins with a mark that wants a space before it; apostrophes are round."""
    assert not re.search(r"^\s*[:;?!»]", printed, re.MULTILINE), printed
    assert "'" not in printed
    page = guide.typeset("<style>a > b { c : d }</style><p class='x'>L'eau : « oui » ?</p>")
    assert page == "<style>a > b { c : d }</style><p class='x'>L\u2019eau\u00a0: «\u00a0oui\u00a0»\u00a0?</p>"


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
