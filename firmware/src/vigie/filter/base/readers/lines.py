"""Lines of a text feed."""

from __future__ import annotations

from collections.abc import Iterator

from vigie.filter.base.readers.sink import Sink

BOM = b"\xef\xbb\xbf"
MAX_LINE = 4096
"""Longest line of a list, in characters; longer ones are bad. (Rules and JSON have limits of their own.)"""


def decoded(data: bytes) -> list[str]:
    """Lines without their ends. Only LF (and the CR before it) ends a line: str.splitlines has eight other ideas.
    Bytes that are not UTF-8 become U+FFFD, which no indicator holds."""
    lines = data.removeprefix(BOM).decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines


def content(lines: list[str], sink: Sink, comments: str, strip: str | None = None) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped text) of the lines that say something; counts the others.
    A line that starts with one of the characters `comments` is a comment. strip: what is cut off both ends."""
    sink.tally.lines += len(lines)
    for number, line in enumerate(lines, 1):
        text = line.strip(strip)
        if not text or text[0] in comments:
            sink.tally.blank += 1
        elif len(text) > MAX_LINE:
            sink.bad(number, text, f"line of more than {MAX_LINE} characters")
        else:
            yield number, text
