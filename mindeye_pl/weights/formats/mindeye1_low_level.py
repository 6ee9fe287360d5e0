"""The published low-level model of MindEye1, `epoch120.pth` (MindEye1, spec section 7.1).

Legend: V voxels, h hidden width, C latent channels, L side of the latents.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import STATE_KEY, PublishedFormat, count
from mindeye_pl.weights.formats.vae_names import older_attention_names

FORMAT = PublishedFormat(
    "MindEye1 low-level",
    {
        "lin0.0.": "alignment.linears.0.",
        "lin0.1.": "mlp.stem.0.",
        "mlp.{i}.": "mlp.blocks.{i}.",
        "lin1.": "head.from_hidden.",
        "norm.": "head.norm.",
        "upsampler.": "head.to_latents.",
        # Released files have the attention's older names, and so do written ones; today's are taken too.
        **older_attention_names("upsampler.", "head.to_latents."),
        "maps_projector.": "head.to_maps.",
    },
)


@dataclass(frozen=True)
class Sizes:
    """Arguments of `LowLevelModel`."""

    voxel_counts: tuple[int, ...]
    hidden_dim: int
    num_blocks: int
    latent_channels: int
    latent_size: int
    widths: tuple[int, ...]
    maps: bool


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path, key=STATE_KEY)


def sizes(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Every size, read off the shapes.

    Raises:
        UserError: when a weight that every such model has is missing, or it is one of the variants whose grid is not of
            64 channels.
    """
    shape = FORMAT.shapes(state, path)
    hidden_dim, voxel_count = shape("lin0.0.weight")
    channels = shape("norm.weight", 1)[0]
    if channels != LowLevelHead.channels:
        raise UserError(
            f"{path} is a variant of the low-level model that is not supported",
            got=f"a grid of {channels} channels",
            expected=f"{LowLevelHead.channels} channels, upsampled 4 times",
        )
    blocks = max(1, count(state, "upsampler.up_blocks.{i}.resnets.0.conv1.weight"))
    return Sizes(
        voxel_counts=(voxel_count,),
        hidden_dim=hidden_dim,
        num_blocks=count(state, "mlp.{i}.0.weight"),
        latent_channels=shape("upsampler.conv_out.weight", 4)[0],
        latent_size=4 * isqrt(shape("lin1.weight")[0] // channels),
        widths=tuple(
            shape(f"upsampler.up_blocks.{block}.resnets.0.conv1.weight", 4)[0] for block in reversed(range(blocks))
        ),
        maps=any(key.startswith("maps_projector.") for key in state),
    )


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part of the model.
    """
    return FORMAT.to_own(state, path)


def to_published(model: LowLevelModel) -> dict[str, Tensor]:
    """The published state dict of a model of one subject.

    Raises:
        UserError: for a model of several subjects.
    """
    if (subjects := len(model.alignment.linears)) != 1:
        raise UserError(
            "the published low-level model has one subject", got=subjects, expected="a model of one subject"
        )
    return FORMAT.to_published(model.state_dict())


def build(sizes: Sizes) -> LowLevelModel:
    """A model of these sizes, on the current default device."""
    return LowLevelModel(**asdict(sizes))
