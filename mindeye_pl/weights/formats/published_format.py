"""Common parts of the importers of published checkpoints: exact renaming of every key, and sizes from shapes."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.weights.formats.renaming import Renaming

#: The entry of MindEye's checkpoints that holds the state dict.
STATE_KEY = "model_state_dict"


class PublishedFormat:
    """The key names of one kind of checkpoint, in both directions.

    Args:
        name: of the kind, in the words of errors.
        prefixes: published prefix to the project's own, see `Renaming`.
    """

    def __init__(self, name: str, prefixes: Mapping[str, str]):
        self.name = name
        self._renaming = Renaming(prefixes)
        self._groups = ", ".join(dict.fromkeys(prefix.split(".")[0] for prefix in prefixes))

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        """The project's state dict.

        Raises:
            UserError: for a key that belongs to no part, or one that another key of the file stands for already.
        """
        own: dict[str, Tensor] = {}
        for key, value in state.items():
            if (renamed := self._renaming.to_own(key)) is None:
                raise self._refusal(path, seen=key, wanted=f"keys of {self._groups}")
            if renamed in own:
                raise self._refusal(path, seen=f"{key} under two names", wanted="each weight once")
            own[renamed] = value
        return own

    def to_published(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published state dict for the project's own."""
        published = {}
        for key, value in own.items():
            renamed = self._renaming.to_published(key)
            assert renamed is not None, key
            published[renamed] = value
        return published

    def shapes(self, state: Mapping[str, Tensor], path: Path) -> Callable[..., tuple[int, ...]]:
        """A function from a published key, and the number of its dimensions, 2 where nothing is said, to its shape.

        Raises:
            UserError: by that function, for a weight that is missing, empty or of another number of dimensions.
        """

        def shape(key: str, dimensions: int = 2) -> tuple[int, ...]:
            if key not in state:
                raise self._refusal(path, seen=f"keys like {sorted(state)[0]}", wanted=key)
            found = tuple(state[key].shape)
            if len(found) != dimensions or 0 in found:
                raise self._refusal(path, seen=f"{key} of shape {found}", wanted=f"{dimensions} dimensions")
            return found

        return shape

    def _refusal(self, path: Path, *, seen: str, wanted: str) -> UserError:
        return UserError(f"{path} is no {self.name} checkpoint", got=seen, expected=wanted)


def count(state: Mapping[str, Tensor], key: str) -> int:
    """One more than the largest number that stands for `{i}` in the key, 0 where there is no such key."""
    pattern = numbered(key)
    return max((int(match[1]) for found in state if (match := pattern.fullmatch(found))), default=-1) + 1


def numbered(key: str) -> re.Pattern[str]:
    """The pattern of a key in which `{i}` stands for one number, its group."""
    return re.compile(re.escape(key).replace(r"\{i\}", r"(\d+)"))
