"""Texts for people: French is the source, English a catalogue (`locale/en/LC_MESSAGES/django.po`).

Commands and services use `_` of this module. Inside the console the language is the reader's, which Django knows: once
Django is set up, `_` asks it. Before that (help of the commands, errors of the configuration) the same catalogue is
read without Django.
"""

from __future__ import annotations

import gettext as _gettext
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

LANGUAGES: Final = ("fr", "en")
LOCALE_DIR: Final = Path(__file__).parent / "locale"
_VARIABLES: Final = ("VIGIE_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")

_language: str = LANGUAGES[0]
_active: _gettext.NullTranslations = _gettext.NullTranslations()


def language(environ: Mapping[str, str], default: str = LANGUAGES[0]) -> str:
    """Two-letter language that the environment asks for; the default when it names none that we have."""
    for variable in _VARIABLES:
        first = environ.get(variable, "").split(":", 1)[0]
        code = first.split(".", 1)[0].split("@", 1)[0].split("_", 1)[0].lower()
        if code in LANGUAGES:
            return code
    return default


def use(code: str) -> str:
    """Switch the process to another language; returns the one before."""
    global _language, _active  # one language per process, except in the console (see above)
    before, _language = _language, code
    if code == LANGUAGES[0]:
        _active = _gettext.NullTranslations()
    else:
        _active = _gettext.translation("django", str(LOCALE_DIR), languages=[code], fallback=True)
    return before


def current() -> str:
    """The language of the process."""
    return _language


def _django() -> Any:
    """Django's translation module once Django is set up, else None (importing it costs a third of a second)."""
    apps = sys.modules.get("django.apps")
    return sys.modules.get("django.utils.translation") if apps is not None and apps.apps.ready else None


def _(message: str) -> str:
    """The message in the reader's language. Placeholders are filled after: `_("{n} boîtiers").format(n=n)`."""
    django = _django()
    return str(django.gettext(message)) if django is not None else _active.gettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """The form for `n` things; 0 and 1 are singular in the French source, which gettext's own fallback gets wrong."""
    django = _django()
    code = django.get_language() if django is not None else _language
    if code is None or code.startswith(LANGUAGES[0]):
        return singular if abs(n) < 2 else plural
    return str(django.ngettext(singular, plural, n)) if django is not None else _active.ngettext(singular, plural, n)
