"""The one rich console, the log handler that speaks through it, and terminals that lack some characters."""

import codecs
import logging
import sys
import unicodedata
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from mindeye_pl.errors import printable


class _Printable(Console):
    """Console that prints no control characters, which the names of a user's files may hold."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)


#: Messages for the user are printed here.
console = _Printable(highlight=False, soft_wrap=True)


_PLAIN = {"\u2026": "...", "\u2192": "->", "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u00d7": "x", "\u2500": "-"}


def use_plain_characters() -> None:
    """Let stdout and stderr print plain characters for those that their encoding lacks, instead of failing."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    simple = "".join(_PLAIN.get(one) or unicodedata.normalize("NFKD", one) for one in lacking)
    return "".join(one if one.isascii() else "?" for one in simple if not unicodedata.combining(one)), error.end


def progress_bar(*, shown: bool = True) -> Progress:
    """Return a bar that counts items and disappears at the end; it is shown in a terminal only."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)


class ConsoleHandler(logging.Handler):
    """Handler that prints log messages without time and level, and each message only once."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        message = record.getMessage().strip()
        if message not in self._shown:
            self._shown.add(message)
            console.print(message, markup=False, style="dim")
