"""Order of file names in which 2 stands before 10."""

import re


def natural_key(stem: str) -> list[str | int]:
    """Return text and numbers in turn, text first, so that two names compare part by part."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", stem))]
