"""The one rich console, and the log handler that speaks through it."""

from rich.console import Console
from rich.logging import RichHandler

#: Plain words for people go here; the log file of a run receives the same lines.
console = Console(highlight=False, soft_wrap=True)


class ConsoleHandler(RichHandler):
    """Log lines without time and level, which the run's log file keeps."""

    def __init__(self) -> None:
        super().__init__(console=console, show_time=False, show_level=False, show_path=False, markup=False)
