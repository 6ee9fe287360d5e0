"""Mind Reader's published mapper from voxels to a CLIP embedding (Mind Reader, spec section 4)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import count

#: Linear maps that are convolutions of kernel 1 in the published model.
_LINEAR, _PUBLISHED_LINEAR = ("over_positions.", "read_out."), ("fc.1.weight", "fc.3.weight")


class _MapperFormat(PublishedFormat):
    """Stems, blocks and the next layer have consecutive numbers, so names depend on the model's depth."""

    def __init__(self, num_stems: int = 0, num_blocks: int = 0):
        super().__init__(
            "Mind Reader mapper",
            {
                **{f"encoder.{stem}.0.": f"stems.{stem}." for stem in range(num_stems)},
                **{f"encoder.{num_stems + block}.net.": f"blocks.{block}.net." for block in range(num_blocks)},
                f"encoder.{num_stems + num_blocks}.": "to_dimensions.",
                "fc.1.": "over_positions.linears.0.",
                "fc.3.": "read_out.",
            },
            state_key=None,
        )

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        own = PublishedFormat.to_own(_MapperFormat(*_depth(state)), state, path)
        return {
            key: value.squeeze(-1).float() if key.startswith(_LINEAR) and value.ndim == 3 else value.float()
            for key, value in own.items()
        }

    def to_published(self, model: VoxelCNN) -> dict[str, Tensor]:
        if (subjects := len(model.padded_voxels)) != 1:
            fix = "fine-tune to one subject first"
            raise UserError("the published format has one subject", got=subjects, expected="one subject", fix=fix)
        published = _MapperFormat(len(model.stems), len(model.blocks)).renaming.to_published(model.state_dict())
        return {key: value[..., None] if key in _PUBLISHED_LINEAR else value for key, value in published.items()}

    def build(self, state: Mapping[str, Tensor], path: Path, *, sigmoid: bool = False) -> VoxelCNN:
        """Build the mapper; `sigmoid` as in `VoxelCNN`, which no weight tells."""
        num_stems, num_blocks = _depth(state)
        shape = self.shapes(state, path)
        hidden_dim, positions, _ = shape("fc.1.weight", 3)
        return VoxelCNN(
            voxel_counts=positions * 2**num_stems,
            embedding_dim=shape(f"encoder.{num_stems + num_blocks}.weight", 3)[0],
            channels=shape("encoder.0.0.weight", 3)[0],
            num_stems=num_stems,
            num_blocks=num_blocks,
            hidden_dim=hidden_dim,
            sigmoid=sigmoid,
        )


def _depth(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the numbers of stems and of blocks."""
    num_stems = count(state, "encoder.{i}.0.weight")
    return num_stems, max(0, count(state, "encoder.{i}.net.0.weight") - num_stems)


FORMAT = _MapperFormat()
