"""What the station shows and asks. `Terminal` is the real one; tests answer by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vigie_provisioning.i18n import _


class Bar(Protocol):
    """A bar on the screen."""

    def __call__(self, title: str, done: int, of: int) -> None:
        """Shows how far it is."""


class Screen(Protocol):
    """The person in front of the station."""

    def say(self, text: str) -> None:
        """Something to know."""

    def do(self, text: str) -> None:
        """Something to do now."""

    def good(self, text: str) -> None:
        """Something went well."""

    def bad(self, text: str) -> None:
        """Something went wrong."""

    def ask(self, question: str) -> bool:
        """Yes or no."""

    def bar(self, *, in_bytes: bool) -> AbstractContextManager[Bar]:
        """A progress bar while the context lasts."""


class Terminal:
    """Rich on the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        """Plain."""
        self._console.print(escape(text))

    def do(self, text: str) -> None:
        """With an arrow: nothing goes on until it is done."""
        self._console.print(f"[bold yellow]➜ {escape(text)}[/]")

    def good(self, text: str) -> None:
        """Green."""
        self._console.print(f"[green]✓ {escape(text)}[/]")

    def bad(self, text: str) -> None:
        """Red."""
        self._console.print(f"[bold red]✗ {escape(text)}[/]")

    def ask(self, question: str) -> bool:
        """Until the answer is one; without anybody (end of input) it is no."""
        choice = _("[o/n]")
        while True:
            try:
                word = self._console.input(f"[bold cyan]? {escape(question)} {escape(choice)} [/]").strip().lower()
            except EOFError:
                return False
            if word in ("o", "oui", "y", "yes"):
                return True
            if word in ("n", "non", "no"):
                return False

    @contextmanager
    def bar(self, *, in_bytes: bool) -> Iterator[Bar]:
        """A bar that goes away at the end."""
        unit = [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()] if in_bytes else []
        columns = (TextColumn("{task.description}"), BarColumn(), *unit)
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("", total=None)

            def show(title: str, done: int, of: int) -> None:
                progress.update(task, description=escape(title), completed=done, total=max(of, 1))

            yield show
