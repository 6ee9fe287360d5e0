"""Base of the published checkpoint formats: exact renaming of every key, and sizes read from the shapes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming, without_wrappers


class PublishedFormat:
    """One kind of checkpoint. A subclass adds `build`, and `to_published` if the project writes the format.

    `prefixes` are published prefixes to the project's own, see `Renaming`; `state_key` is the entry of the checkpoint
    that holds the state dict, None if the file is the state dict.
    """

    #: Builds the model on the current default device, `build(state, path, **options)`, from the published state dict;
    #: raises a UserError if a weight is missing that every such model has. Options are sizes that the shapes lack.
    build: Callable[..., Any]

    def __init__(self, name: str, prefixes: Mapping[str, str], state_key: str | None = "model_state_dict"):
        self.name, self.state_key, self.renaming = name, state_key, Renaming(prefixes)
        self._groups = ", ".join(dict.fromkeys(prefix.split(".")[0] for prefix in prefixes))

    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the published state dict of a file, without wrappers' prefixes; raises a UserError as `read_state`."""
        return without_wrappers(read_state(path) if self.state_key is None else read_state(path, key=self.state_key))

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return the project's state dict; raises a UserError for an unknown key, or two keys of the same weight."""
        own: dict[str, Tensor] = {}
        for key, value in state.items():
            if (renamed := self.renaming.to_own(key)) is None:
                raise self.refusal(path, got=key, expected=f"keys of {self._groups}")
            if renamed in own:
                raise self.refusal(path, got=f"{key} under two names", expected="each weight once")
            own[renamed] = value
        return own

    def to_published(self, model: Any) -> dict[str, Tensor]:
        """Return the published state dict of a model; raises a UserError if the format cannot hold it."""
        raise UserError(f"{self.name} checkpoints cannot be written", got=type(model).__name__)

    def shapes(self, state: Mapping[str, Tensor], path: Path) -> Callable[..., tuple[int, ...]]:
        """Return a function from a published key and the number of its dimensions, by default 2, to its shape.

        The function raises a UserError if the weight is missing, empty or has another number of dimensions.
        """

        def shape(key: str, dimensions: int = 2) -> tuple[int, ...]:
            self.require(state, path, key)
            found = tuple(state[key].shape)
            if len(found) != dimensions or 0 in found:
                raise self.refusal(path, got=f"{key} of shape {found}", expected=f"{dimensions} dimensions")
            return found

        return shape

    def require(self, state: Mapping[str, Tensor], path: Path, *keys: str) -> None:
        """Raise a UserError if a key is missing."""
        for key in keys:
            if key not in state:
                raise self.refusal(path, got=f"keys like {min(state, default='')}", expected=key)

    def refusal(self, path: Path, *, got: object, expected: object) -> UserError:
        """Return the error about a file that is not of this kind."""
        return UserError(f"{path} is no {self.name} checkpoint", got=got, expected=expected)
