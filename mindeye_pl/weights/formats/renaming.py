"""Two-way renaming of state-dict keys."""

import re
from collections.abc import Mapping


class Renaming:
    """Exchanges prefixes of keys, in both directions.

    Args:
        prefixes: published prefix to the project's own; `{i}` stands for one number, the same on both sides. Where
            several prefixes fit, the longest one counts.
    """

    def __init__(self, prefixes: Mapping[str, str]):
        self._to_own = _rules(prefixes)
        self._to_published = _rules({own: published for published, own in prefixes.items()})

    def to_own(self, key: str) -> str | None:
        """The project's key for a published one, None where no prefix fits."""
        return _rename(key, self._to_own)

    def to_published(self, key: str) -> str | None:
        """The published key for one of the project's, None where no prefix fits."""
        return _rename(key, self._to_published)


def _rules(prefixes: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    longest_first = sorted(prefixes.items(), key=lambda item: -len(item[0]))
    return [
        (re.compile(re.escape(old).replace(r"\{i\}", r"(\d+)")), new.replace("{i}", r"\g<1>"))
        for old, new in longest_first
    ]


def _rename(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.match(key):
            return match.expand(replacement) + key[match.end() :]
    return None
