"""Message catalogues: French is the source text, `locale/<language>/LC_MESSAGES/<domain>.po` the translations.

One catalogue for the box (`vigie`), one for the department (`django`, the name that Django looks for), one for the
flashing bench (`provisioning`).

catalogues.py build     .po -> .mo, where stale (done by `make setup`)
catalogues.py update    bring the .po files in line with the texts in the code (`make messages`)
catalogues.py check     exit 1 when a text has no translation, and name it
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Translations of Vigie's texts. The keys are the French texts of the code: `make messages` brings them in line.
msgid ""
msgstr ""
"Language: {language}\\n"
"Plural-Forms: {plural}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
KEYWORDS = {"_": None, "gettext_lazy": None, "ngettext": (1, 2)}
TRANSLATE = re.compile(r"""\{%-?\s*translate\s+(?P<quote>["'])(?P<text>.*?)(?P=quote)""")
BLOCK = re.compile(r"\{%-?\s*blocktranslate\b")


def django_template(
    file: BinaryIO, keywords: Any, comment_tags: Collection[str], options: dict[str, Any]
) -> Iterator[tuple[int, str, str, list[str]]]:
    """An extraction method of babel for Django's templates: `{% translate "…" %}`, the one form that is allowed."""
    text = file.read().decode()
    if BLOCK.search(text):
        raise SystemExit(f"{file.name}: use `translate` with one text, not `blocktranslate`")
    for number, line in enumerate(text.splitlines(), 1):
        for found in TRANSLATE.finditer(line):
            yield number, "_", found["text"], []


@dataclass(frozen=True)
class Domain:
    """Texts of one distribution: where they are written, and in what."""

    name: str
    package: Path
    methods: list[tuple[str, Any]]

    def files(self) -> Iterator[Path]:
        """Its .po files, in order."""
        yield from sorted((self.package / "locale").glob(f"*/LC_MESSAGES/{self.name}.po"))

    def read(self, path: Path) -> Catalog:
        """A .po file; its language is the name of its folder."""
        with path.open("rb") as file:
            return read_po(file, locale=path.parents[1].name, domain=self.name, abort_invalid=True)

    def source_texts(self) -> Catalog:
        """Every text in the code that goes through `_` or `ngettext`, with the files that hold it.

        Without line numbers: they would change the catalogue at every edit of the code.
        """
        template = Catalog(project=self.name, fuzzy=False)
        for name, _line, message, comments, context in extract_from_dir(
            self.package,
            method_map=self.methods,
            keywords=KEYWORDS,
            comment_tags=("i18n:",),
            strip_comment_tags=True,
        ):
            template.add(message, locations=[(name, 0)], auto_comments=comments, context=context)
        return template


DOMAINS = (
    Domain("vigie", ROOT / "firmware/src/vigie", [("**.py", "python"), ("**.html", "jinja2")]),
    Domain("django", ROOT / "department/src/vigie_department", [("**.py", "python"), ("**.html", django_template)]),
    Domain("provisioning", ROOT / "provisioning/src/vigie_provisioning", [("**.py", "python")]),
)


def build() -> None:
    """Compile what is older than its source."""
    for domain in DOMAINS:
        build_one(domain)


def build_one(domain: Domain) -> None:
    """The same for one domain."""
    for path in domain.files():
        compiled = path.with_suffix(".mo")
        if compiled.exists() and compiled.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            continue
        with compiled.open("wb") as file:
            write_mo(file, domain.read(path))


def update() -> None:
    """Add the new texts (to be translated by hand), drop those that are gone."""
    for domain in DOMAINS:
        update_one(domain)


def update_one(domain: Domain) -> None:
    """The same for one domain."""
    template = domain.source_texts()
    for path in domain.files():
        catalogue = domain.read(path)
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
    return [problem for domain in DOMAINS for problem in missing_of(domain)]


def missing_of(domain: Domain) -> list[str]:
    """The same for one domain."""
    wanted = {message.id for message in domain.source_texts() if message.id}
    problems = []
    for path in domain.files():
        which = f"{domain.name} {path.parents[1].name}"
        messages = [message for message in domain.read(path) if message.id]
        known = {message.id for message in messages}
        done = {message.id for message in messages if translated(message)}
        problems += [f"{which}: no translation of {text!r}" for text in sorted(map(str, wanted - done))]
        problems += [f"{which}: not in the code any more: {text!r}" for text in sorted(map(str, known - wanted))]
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
