"""The one rich console, and the log handler that speaks through it."""

import logging

from rich.console import Console

#: Messages for the user are printed here.
console = Console(highlight=False, soft_wrap=True)


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
