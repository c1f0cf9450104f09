"""Texts for the person at the flashing station: French is the source, other languages are gettext catalogues.

The rest of these commands speaks English to engineers; who stands at a bench with a tray of boards reads French.
"""

from __future__ import annotations

import gettext as _gettext
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DOMAIN: Final = "provisioning"
SOURCE_LANGUAGE: Final = "fr"
LOCALE_DIR: Final = Path(__file__).parent / "locale"
_VARIABLES: Final = ("VIGIE_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def language(environ: Mapping[str, str]) -> str:
    """Two-letter language that the environment asks for; French when it asks for none."""
    for variable in _VARIABLES:
        word = environ.get(variable, "").split(":", 1)[0]
        code = word.split(".", 1)[0].split("@", 1)[0].split("_", 1)[0].lower()
        if code and code not in ("c", "posix"):
            return code
    return SOURCE_LANGUAGE


def translations(code: str) -> _gettext.NullTranslations:
    """Catalogue of a language; the source text itself for French, or where there is no catalogue."""
    if code == SOURCE_LANGUAGE:
        return _gettext.NullTranslations()
    return _gettext.translation(DOMAIN, str(LOCALE_DIR), languages=[code], fallback=True)


_active: _gettext.NullTranslations = translations(language(os.environ))


def use(code: str) -> None:
    """Switches the process to another language (`--lang`, tests)."""
    global _active  # one language per process
    _active = translations(code)


def _(message: str) -> str:
    """The message in the reader's language. Placeholders are filled after: `_("{n} cartes").format(n=n)`."""
    return _active.gettext(message)
