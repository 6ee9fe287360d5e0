"""The published converter from bigG tokens to ViT-L features (MindEye2, spec section 8)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import TokenConverter
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming

RENAMING = Renaming({"linear1.": "over_tokens.", "linear2.": "over_channels."})


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path, key="model_state_dict")


def sizes(state: Mapping[str, Tensor], path: Path) -> tuple[int, int, int, int]:
    """Tokens, their width, features and their width, read off the shapes.

    Raises:
        UserError: if it is no converter.
    """
    for key in ("linear1.weight", "linear2.weight"):
        if key not in state:
            raise UserError(f"{path} is no token converter", got=f"keys like {sorted(state)[0]}", expected=key)
    (num_features, num_tokens), (feature_dim, token_dim) = state["linear1.weight"].shape, state["linear2.weight"].shape
    return num_tokens, token_dim, num_features, feature_dim


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part.
    """
    own = {}
    for key, value in state.items():
        if (renamed := RENAMING.to_own(key)) is None:
            raise UserError(f"{path} is no token converter", got=key, expected="linear1.*, linear2.*")
        own[renamed] = value
    return own


def build(sizes: tuple[int, int, int, int]) -> TokenConverter:
    """A converter of these sizes, on the current default device."""
    num_tokens, token_dim, num_features, feature_dim = sizes
    return TokenConverter(num_tokens, token_dim, num_features=num_features, feature_dim=feature_dim)
