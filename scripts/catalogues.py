"""Message catalogues: French is the source text, `locale/<language>/LC_MESSAGES/vigie.po` the translations.

catalogues.py build     .po -> .mo, where stale (done by `make setup`)
catalogues.py update    bring the .po files in line with the texts in the code (`make messages`)
catalogues.py check     exit 1 when a text has no translation, and name it
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).resolve().parents[1] / "firmware" / "src" / "vigie"
LOCALE = PACKAGE / "locale"
HEADER = """\
# Translations of Vigie's texts. The keys are the French texts of the code: `make messages` brings them in line.
msgid ""
msgstr ""
"Language: {language}\\n"
"Plural-Forms: {plural}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
KEYWORDS = {"_": None, "ngettext": (1, 2)}


def catalogues() -> Iterator[Path]:
    """Every .po file, in order."""
    yield from sorted(LOCALE.glob("*/LC_MESSAGES/vigie.po"))


def read(path: Path) -> Catalog:
    """A .po file; its language is the name of its folder."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parents[1].name, domain="vigie", abort_invalid=True)


def source_texts() -> Catalog:
    """Every text in the code that goes through `_` or `ngettext`, with the files that hold it.

    Without line numbers: they would change the catalogue at every edit of the code.
    """
    template = Catalog(project="vigie", fuzzy=False)
    for name, _line, message, comments, context in extract_from_dir(
        PACKAGE, method_map=[("**.py", "python")], keywords=KEYWORDS, comment_tags=("i18n:",), strip_comment_tags=True
    ):
        template.add(message, locations=[(name, 0)], auto_comments=comments, context=context)
    return template


def build() -> None:
    """Compile what is older than its source."""
    for path in catalogues():
        compiled = path.with_suffix(".mo")
        if compiled.exists() and compiled.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            continue
        with compiled.open("wb") as file:
            write_mo(file, read(path))


def update() -> None:
    """Add the new texts (to be translated by hand), drop those that are gone."""
    template = source_texts()
    for path in catalogues():
        catalogue = read(path)
        # No guessing: a fuzzy translation of a security message is a wrong one.
        catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
        catalogue.obsolete.clear()
        buffer = io.BytesIO()
        buffer.write(HEADER.format(language=path.parents[1].name, plural=catalogue.plural_forms).encode())
        # a header of our own: the usual one holds dates, which change at every run and say nothing
        write_po(buffer, catalogue, width=100, sort_output=True, omit_header=True, include_lineno=False)
        path.write_bytes(buffer.getvalue())


def translated(message: Message) -> bool:
    """True when every form of the message has its text."""
    forms = [message.string] if isinstance(message.string, str) else list(message.string or ())
    return bool(forms) and all(forms) and not message.fuzzy


def missing() -> list[str]:
    """One line per text of the code that a catalogue does not translate, and per text that only it has."""
    template = source_texts()
    wanted = {message.id for message in template if message.id}
    problems = []
    for path in catalogues():
        language = path.parents[1].name
        messages = [message for message in read(path) if message.id]
        known = {message.id for message in messages}
        done = {message.id for message in messages if translated(message)}
        problems += [f"{language}: no translation of {text!r}" for text in sorted(map(str, wanted - done))]
        problems += [f"{language}: not in the code any more: {text!r}" for text in sorted(map(str, known - wanted))]
    return problems


def main() -> int:
    """Exit code: 0 done, 1 something to translate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "update", "check"))
    what = parser.parse_args().what
    if what == "build":
        build()
        return 0
    if what == "update":
        update()
    problems = missing()
    if problems:
        sys.stderr.write("\n".join([*problems, "-> `make messages`, then translate in the .po file"]) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
