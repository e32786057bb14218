"""What a person sees of the demo: acts, events with their time, and claims that must hold."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class ClaimError(Exception):
    """A claim of the demo does not hold; the message is the sentence to read."""


class Timeline:
    """Lines with the seconds since the start; a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._acts = 0
        self._spinner: Status | None = None
        self.claims = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def act(self, title: str) -> None:
        self._acts += 1
        self._line(f"\n[bold]Act {self._acts}: {escape(title)}[/bold]")

    def tell(self, text: str) -> None:
        """Something happened."""
        self._line(f"[dim]{self.elapsed:6.1f} s[/dim]    {escape(text)}")

    def claim(self, holds: bool, text: str, otherwise: str = "") -> None:
        """Something must be so; raises ClaimError when it is not."""
        if not holds:
            self._line(f"[dim]{self.elapsed:6.1f} s[/dim]  [red]✗ {escape(text)}[/red]")
            raise ClaimError(f"{text}: not so. {otherwise}".strip())
        self.claims += 1
        self._line(f"[dim]{self.elapsed:6.1f} s[/dim]  [green]✓[/green] {escape(text)}")

    def show(self, command: str, output: str) -> None:
        """A command that people can type, and what it says."""
        self._line(f"\n[bold]$ {escape(command)}[/bold]")
        self._console.print(output.rstrip(), markup=False, soft_wrap=True)

    def plain(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """While something is awaited: a spinner, where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(escape(text)) as self._spinner:
            try:
                yield
            finally:
                self._spinner = None

    def progress(self, text: str) -> None:
        """News for the spinner; nothing on a plain log."""
        if self._spinner is not None:
            self._spinner.update(escape(text))

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)
