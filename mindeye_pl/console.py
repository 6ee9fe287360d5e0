"""The one rich console, and the log handler that speaks through it."""

import logging

from rich.console import Console

#: Plain words for people go here.
console = Console(highlight=False, soft_wrap=True)


class ConsoleHandler(logging.Handler):
    """Log messages without time and level, which the run's log file keeps; the same message is shown once."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record's message."""
        message = record.getMessage().strip()
        if message not in self._shown:
            self._shown.add(message)
            console.print(message, markup=False, style="dim")
