"""The printed guide for town halls: docs/guide/*.j2 -> build/guide/guide.{html,pdf}.

The legend of the lamps and of the button is the guardian's own (`firmware/guardian/legend.json`), so that paper and box
agree. Who to call is the department's: --name, --phone, --csirt; without them there are lines to fill in by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs/guide"
LEGEND = ROOT / "firmware/guardian/legend.json"
WORDS = {"green": ("vert", "verts"), "amber": ("orange", "orange"), "red": ("rouge", "rouges"), "off": ("éteint", "")}
"""Each colour of a lamp, of one and of several flashes: a guide that was printed in black must be readable too."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom a town hall calls; empty: a line to fill in by hand."""

    name: str = ""
    phone: str = ""
    csirt: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One look of a lamp, and what it says. flashes: between two pauses; 0: steady."""

    colour: str
    flashes: int
    text: str

    @property
    def look(self) -> str:
        """In words."""
        one, several = WORDS[self.colour]
        if self.colour == "off":
            return one
        if not self.flashes:
            return f"{one}, fixe"
        return f"{self.flashes}\u00a0{several if self.flashes > 1 else one}"


@dataclass(frozen=True, slots=True)
class Legend:
    """lamps: name -> its rows. explanation: how flashes are counted; one_colour: for lamps of one colour only."""

    explanation: str
    one_colour: str
    lamps: dict[str, list[Row]]


def read_legend(path: Path = LEGEND) -> Legend:
    """The guardian's legend, in French. SystemExit names the file and what is wrong in it."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        lamps = {
            str(lamp["fr"]): [Row(str(row["colour"]), int(row["flashes"]), str(row["fr"])) for row in lamp["rows"]]
            for lamp in found["lamps"]
        }
        legend = Legend(str(found["explanation"]["fr"]), str(found["one_colour"]["fr"]), lamps)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise SystemExit(f"{path}: not a legend ({e!r})") from e
    for colour in (row.colour for rows in legend.lamps.values() for row in rows):
        if colour not in WORDS:
            raise SystemExit(f"{path}: `{colour}` is no colour of a lamp: {', '.join(WORDS)}")
    return legend


def html(contact: Contact, legend: Path = LEGEND) -> str:
    """The guide as one page of HTML; its style sheet lies beside it."""
    environment = Environment(
        loader=FileSystemLoader(SOURCE), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return typeset(environment.get_template("guide.html.j2").render(contact=contact, legend=read_legend(legend)))


def typeset(page: str) -> str:
    """French typography in the texts of a page: round apostrophes, and no line that begins with `:` or `?`."""

    def text(found: re.Match[str]) -> str:
        words = found[0].replace("&#39;", "\u2019").replace("'", "\u2019")
        return re.sub(r"(?<=«)\s+|\s+(?=[:;?!»])", "\u00a0", words)

    parts = re.split(r"(<style>.*?</style>)", page, flags=re.DOTALL)
    return "".join(part if part.startswith("<style>") else re.sub(r"(?<=>)[^<>]+", text, part) for part in parts)


def write(folder: Path, contact: Contact) -> Path:
    """guide.html and guide.pdf in `folder`; returns the PDF."""
    from weasyprint import HTML  # loads Pango: only where pages are drawn

    folder.mkdir(parents=True, exist_ok=True)
    text = html(contact)
    (folder / "guide.html").write_text(text, "utf-8")
    (folder / "guide.css").write_bytes((SOURCE / "guide.css").read_bytes())
    pdf = folder / "guide.pdf"
    HTML(string=text, base_url=str(SOURCE) + "/").write_pdf(pdf)
    return pdf


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/guide")
    for name in ("name", "phone", "csirt"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args()
    print(write(args.out, Contact(args.name, args.phone, args.csirt)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
