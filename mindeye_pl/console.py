"""The one rich console, and the log handler that speaks through it."""

import logging

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

#: Messages for the user are printed here.
console = Console(highlight=False, soft_wrap=True)


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
