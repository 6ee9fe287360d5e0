"""Reading of json that somebody else may have written: text of any nesting, and files of any kind."""

import json
from pathlib import Path
from typing import Any

from mindeye_pl.store.regular_files import check_regular


def read_json(path: Path) -> Any:
    """Return the content of a json file.

    Raises:
        UserError: for something else than a regular file.
        OSError: if the file cannot be read.
        ValueError: if it is no json, or nested too deeply.
    """
    return parse_json(check_regular(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Return the content of json text; raises a ValueError if it is no json, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
