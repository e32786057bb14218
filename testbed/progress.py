"""What a person sees while the test bed works: phases, elapsed time, a spinner on a terminal."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

_console = Console(stderr=True, highlight=False)

_spinner = threading.Lock()

Update = Callable[[str], None]


@contextmanager
def phase(title: str) -> Iterator[Update]:
    """One phase of work; the yielded function shows what it is at.

    On a terminal: a spinner with the latest news. Elsewhere: a line at the start, a line
    at the end, and news at most every 15 seconds so that a log stays short. So too for a phase
    that begins while another one has the spinner.
    """
    began = time.monotonic()
    failed = True
    spins = _console.is_terminal and _spinner.acquire(blocking=False)
    try:
        if spins:
            with _console.status(title) as spinner:

                def live(news: str) -> None:
                    elapsed = time.monotonic() - began
                    spinner.update(f"{title}: {news} [dim]({elapsed:.0f} s)[/dim]")

                yield live
        else:
            _line(f"{title} ...")
            yield _occasional(title, began)
        failed = False
    finally:
        if spins:
            _spinner.release()
        elapsed = time.monotonic() - began
        _line(f"{title}: {'FAILED' if failed else 'done'} ({elapsed:.1f} s)")


def say(text: str) -> None:
    """One line to the person, on standard error."""
    _line(text)


def _line(text: str) -> None:
    if _console.is_terminal:
        _console.print(text, markup=False)
    else:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _occasional(title: str, began: float) -> Update:
    last = began

    def update(news: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 15:
            last = time.monotonic()
            _line(f"{title}: {news} ({last - began:.0f} s)")

    return update
