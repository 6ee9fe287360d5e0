"""Mind Reader's published mapper from voxels to a CLIP embedding (Mind Reader, spec section 4)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import PublishedFormat, count

#: The file is a state dict and nothing around it.
STATE_KEY = None

#: Linear maps that are convolutions of kernel one in the published model.
_LINEAR = ("over_positions.", "read_out.")


@dataclass(frozen=True)
class Sizes:
    """Arguments of `VoxelCNN`."""

    voxel_counts: int
    embedding_dim: int
    channels: int
    num_stems: int
    num_blocks: int
    hidden_dim: int
    sigmoid: bool


def _format(num_stems: int, num_blocks: int) -> PublishedFormat:
    """Stems, blocks and the layer behind them are numbered in one row."""
    return PublishedFormat(
        "Mind Reader mapper",
        {
            **{f"encoder.{stem}.0.": f"stems.{stem}." for stem in range(num_stems)},
            **{f"encoder.{num_stems + block}.net.": f"blocks.{block}.net." for block in range(num_blocks)},
            f"encoder.{num_stems + num_blocks}.": "to_dimensions.",
            "fc.1.": "over_positions.linears.0.",
            "fc.3.": "read_out.",
        },
    )


def _counts(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many stems and blocks the keys name."""
    num_stems = count(state, "encoder.{i}.0.weight")
    return num_stems, max(0, count(state, "encoder.{i}.net.0.weight") - num_stems)


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path)


def sizes(state: Mapping[str, Tensor], path: Path, *, sigmoid: bool = False) -> Sizes:
    """Every size, read off the shapes.

    Args:
        state: the published state dict.
        path: the file.
        sigmoid: see `VoxelCNN`; no weight tells.

    Raises:
        UserError: if a weight that every mapper has is missing.
    """
    num_stems, num_blocks = _counts(state)
    shape = _format(num_stems, num_blocks).shapes(state, path)
    hidden_dim, positions, _ = shape("fc.1.weight", 3)
    return Sizes(
        voxel_counts=positions * 2**num_stems,
        embedding_dim=shape(f"encoder.{num_stems + num_blocks}.weight", 3)[0],
        channels=shape("encoder.0.0.weight", 3)[0],
        num_stems=num_stems,
        num_blocks=num_blocks,
        hidden_dim=hidden_dim,
        sigmoid=sigmoid,
    )


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict, in which the convolutions of kernel one over the positions are linear maps.

    Raises:
        UserError: for a key that belongs to no part.
    """
    own = _format(*_counts(state)).to_own(state, path)
    return {
        key: value.squeeze(-1).float() if key.startswith(_LINEAR) and value.ndim == 3 else value.float()
        for key, value in own.items()
    }


def to_published(model: VoxelCNN) -> dict[str, Tensor]:
    """The published state dict of a mapper, which is of one subject.

    Raises:
        UserError: for a mapper of several.
    """
    if (subjects := len(model.padded_voxels)) != 1:
        raise UserError("the published format holds one subject", got=subjects, fix="fine-tune to one subject first")
    published = _format(len(model.stems), len(model.blocks)).to_published(model.state_dict())
    return {
        key: value[..., None] if key in ("fc.1.weight", "fc.3.weight") else value for key, value in published.items()
    }


def build(sizes: Sizes) -> VoxelCNN:
    """A mapper of these sizes, on the current default device."""
    return VoxelCNN(**asdict(sizes))
