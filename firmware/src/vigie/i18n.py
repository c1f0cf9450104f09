"""Texts for people: French is the source, other languages are gettext catalogues.

Every message that a mairie or an operator reads goes through `_` (or `ngettext`) with its French text as key, so a
missing catalogue or a missing entry shows French, never an identifier. Catalogues are
`locale/<language>/LC_MESSAGES/vigie.po`; the `.mo` files are built by `scripts/catalogues` and are not committed.
"""

from __future__ import annotations

import gettext as _gettext
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DOMAIN: Final = "vigie"
SOURCE_LANGUAGE: Final = "fr"
LOCALE_DIR: Final = Path(__file__).parent / "locale"
_VARIABLES: Final = ("VIGIE_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def language(environ: Mapping[str, str]) -> str:
    """Two-letter language that the environment asks for; French when it asks for none.

    `VIGIE_LANG` wins over the usual variables, in gettext's order. `C`, `POSIX` and encodings name no language.
    """
    for variable in _VARIABLES:
        first = environ.get(variable, "").split(":", 1)[0]
        code = first.split(".", 1)[0].split("@", 1)[0].split("_", 1)[0].lower()
        if code and code not in ("c", "posix"):
            return code
    return SOURCE_LANGUAGE


def translations(code: str, locale_dir: Path = LOCALE_DIR) -> _gettext.NullTranslations:
    """Catalogue of a language; the source text itself for French, an unknown language or a catalogue not built."""
    if code == SOURCE_LANGUAGE:
        return _gettext.NullTranslations()
    return _gettext.translation(DOMAIN, str(locale_dir), languages=[code], fallback=True)


_language: str = language(os.environ)
_active: _gettext.NullTranslations = translations(_language)


def use(code: str) -> str:
    """Switch the process to another language (`--lang`, tests); returns the one before."""
    global _language, _active  # one language per process: the command line or the service decides it once
    before, _language, _active = _language, code, translations(code)
    return before


def _(message: str) -> str:
    """The message in the reader's language. Placeholders are filled after: `_("{n} appareils").format(n=n)`."""
    return _active.gettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """The form for `n` things. French counts 0 and 1 as singular, which the source text follows.

    gettext's own fallback uses the Germanic rule (0 is plural), so French is decided here.
    """
    if type(_active) is _gettext.NullTranslations:
        return singular if abs(n) < 2 else plural
    return _active.ngettext(singular, plural, n)
