"""The label under a box: serial number, claim id, the page's address, and that address again as a QR code.

PDF for the label printer, PNG for whoever sticks it into a list. The QR code holds the page's address and nothing
else: a photograph of a shelf full of boxes says nothing about any of them. The same job gives the same bytes, and the
label is in French whatever language the station speaks: town halls read it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import segno
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from vigie_provisioning.errors import ProvisioningError

WIDTH_MM: Final = 62.0
HEIGHT_MM: Final = 29.0
_DPI: Final = 300
_MARGIN: Final = 1.5
_FONTS: Final = Path("/usr/share/fonts/truetype/dejavu")
REGULAR: Final = _FONTS / "DejaVuSans.ttf"
BOLD: Final = _FONTS / "DejaVuSans-Bold.ttf"
_LEFT: Final = 2.0
_QUIET: Final = 4  # modules of white that a reader wants around the code (ISO/IEC 18004, 9.1)


@dataclass(slots=True, frozen=True)
class Label:
    """What is printed. page: an address such as http://vigie.local/; at: Unix time of the registration."""

    serial: str
    claim_id: str
    page: str
    department: str
    at: int


@dataclass(slots=True, frozen=True)
class _Text:
    """A line: text, size in points, bold, place of its base line from the top in millimetres."""

    text: str
    points: float
    bold: bool
    y: float


def lines(label: Label) -> list[_Text]:
    """What stands left of the code, from top to bottom."""
    return [
        _Text("Vigie", 12.0, True, 5.6),
        _Text(label.department, 5.5, False, 8.4),
        _Text("Numéro de série", 4.5, False, 11.4),
        _Text(label.serial, 7.5, True, 14.4),
        _Text("Code de rattachement", 4.5, False, 17.4),
        _Text(label.claim_id, 8.5, True, 20.6),
        _Text("Page du boîtier", 4.5, False, 23.6),
        _Text(label.page, 6.5, False, 26.4),
    ]


def modules(page: str) -> list[list[bool]]:
    """The QR code of an address, row by row, without its quiet zone. Level M: a scratched label still reads."""
    code = segno.make(page, error="m", micro=False)
    return [[bool(cell) for cell in row] for row in code.matrix]


def check_fonts() -> None:
    """ProvisioningError when the fonts are not there: said before the first board, not at its label."""
    for font in (REGULAR, BOLD):
        if not font.is_file():
            raise ProvisioningError(f"{font}: the labels' font is missing; install Debian's package fonts-dejavu-core")


def pdf(label: Label) -> bytes:
    """One page of the label's size, with its fonts in it."""
    check_fonts()
    page = FPDF(orientation="L", unit="mm", format=(HEIGHT_MM, WIDTH_MM))
    page.set_auto_page_break(False)
    page.set_margin(0)
    page.set_creation_date(datetime.fromtimestamp(label.at, UTC))
    page.set_title(label.serial)
    page.add_font("label", "", REGULAR)
    page.add_font("label", "B", BOLD)
    page.add_page()
    left, top, side, cells = place(label.page)
    for line in lines(label):
        page.set_font("label", style="B" if line.bold else "", size=line.points)
        page.set_font_size(_fitting(line.points, page.get_string_width(line.text), left, side))
        page.text(_LEFT, line.y, line.text)
    for x, y, run in _runs(cells):
        page.rect(left + x * side, top + y * side, run * side, side, style="F")
    return bytes(page.output())


def png(label: Label) -> bytes:
    """The same at 300 dots per inch."""
    check_fonts()
    scale = _DPI / 25.4
    image = Image.new("L", (round(WIDTH_MM * scale), round(HEIGHT_MM * scale)), 255)
    draw = ImageDraw.Draw(image)
    left, top, side, cells = place(label.page)
    for line in lines(label):
        file = BOLD if line.bold else REGULAR
        wide = ImageFont.truetype(file, line.points * _DPI / 72).getlength(line.text) / scale
        font = ImageFont.truetype(file, _fitting(line.points, wide, left, side) * _DPI / 72)
        draw.text((_LEFT * scale, line.y * scale), line.text, 0, font, "ls")
    # Whole dots a module, from the same corner as in the PDF: edges stay sharp.
    dots = dots_of(side)
    for x, y, run in _runs(cells):
        corner = (round(left * scale) + x * dots, round(top * scale) + y * dots)
        draw.rectangle((*corner, corner[0] + run * dots - 1, corner[1] + dots - 1), fill=0)
    out = io.BytesIO()
    image.save(out, "PNG", dpi=(_DPI, _DPI))
    return out.getvalue()


def dots_of(side: float) -> int:
    """Dots of the picture for a module of `side` millimetres."""
    return max(1, int(side * _DPI / 25.4))


def _fitting(points: float, wide: float, left: float, side: float) -> float:
    """The size at which a line that is `wide` millimetres at `points` ends before the code's white."""
    room = left - _QUIET * side - _LEFT - 0.3
    return points if wide <= room else points * room / wide


def place(page: str) -> tuple[float, float, float, list[list[bool]]]:
    """(left, top, side of a module in millimetres, modules) of the code at the right of the label."""
    cells = modules(page)
    side = (HEIGHT_MM - 2 * _MARGIN) / (len(cells) + 2 * _QUIET)
    return WIDTH_MM - _MARGIN - (len(cells) + _QUIET) * side, _MARGIN + _QUIET * side, side, cells


def _runs(cells: list[list[bool]]) -> list[tuple[int, int, int]]:
    """(x, y, length) of the black stretches: one rectangle each leaves no hairlines between modules."""
    found = []
    for y, row in enumerate(cells):
        x = 0
        while x < len(row):
            run = 0
            while x + run < len(row) and row[x + run]:
                run += 1
            if run:
                found.append((x, y, run))
            x += max(run, 1)
    return found
