"""Passphrases: asked at the terminal, or read from a file where nobody sits there (lab, drill)."""

from __future__ import annotations

import getpass
from pathlib import Path

from vigie_department.errors import UsageError
from vigie_department.signer.files import read_bounded
from vigie_department.signer.metadata import KEYHOLDERS
from vigie_department.signer.offline import AskPassphrase
from vigie_department.texts import _

_MAX_FILE = 16 * 1024


def ask_one(prompt: str, file: Path | None) -> str:
    """One passphrase: the first line of `file`, else typed."""
    return _lines(file)[0] if file is not None else getpass.getpass(prompt)


def new_one(prompt: str, file: Path | None) -> str:
    """A new passphrase, typed twice."""
    first = ask_one(prompt, file)
    if file is None and getpass.getpass(_("Encore une fois : ")) != first:
        raise UsageError(_("les deux saisies diffèrent"))
    return first


def of_keyholders(file: Path | None) -> AskPassphrase:
    """Passphrases by keyholder: the last five lines of `file` (the first of `init` are the root CA), else typed."""
    if file is None:
        return lambda number: getpass.getpass(_("Phrase secrète du porteur {n} : ").format(n=number))
    lines = _lines(file)[-KEYHOLDERS:]

    def line(number: int) -> str:
        if number > len(lines):
            raise UsageError(_("{file} : pas de ligne {n}").format(file=file, n=number))
        return lines[number - 1]

    return line


def _lines(file: Path) -> list[str]:
    lines = read_bounded(file, _MAX_FILE).decode("utf-8").splitlines()
    if not lines:
        raise UsageError(_("{file} : vide").format(file=file))
    return lines
