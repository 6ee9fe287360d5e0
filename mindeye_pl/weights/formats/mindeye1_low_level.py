"""The published low-level model of MindEye1, `epoch120.pth` (MindEye1, spec section 7.1)."""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import count, older_attention_names

_PREFIXES = {
    "lin0.0.": "alignment.linears.0.",
    "lin0.1.": "mlp.stem.0.",
    "mlp.{i}.": "mlp.blocks.{i}.",
    "lin1.": "head.from_hidden.",
    "norm.": "head.norm.",
    "upsampler.": "head.to_latents.",
    # Released files and written ones have the attention's older names; today's are read too.
    **older_attention_names("upsampler.", "head.to_latents."),
    "maps_projector.": "head.to_maps.",
}


class _LowLevelFormat(PublishedFormat):
    def to_published(self, model: LowLevelModel) -> dict[str, Tensor]:
        if (subjects := len(model.alignment.linears)) != 1:
            raise UserError("the published low-level model has one subject", got=subjects, expected="one subject")
        return self.renaming.to_published(model.state_dict())

    def build(self, state: Mapping[str, Tensor], path: Path) -> LowLevelModel:
        """Build the model; raises a UserError for variants whose grid does not have 64 channels."""
        shape = self.shapes(state, path)
        hidden_dim, voxel_count = shape("lin0.0.weight")
        channels = shape("norm.weight", 1)[0]
        if channels != LowLevelHead.channels:
            got, expected = f"a grid of {channels} channels", f"{LowLevelHead.channels} channels, upsampled 4 times"
            raise UserError(f"{path} is a low-level model that is not supported", got=got, expected=expected)
        blocks = max(1, count(state, "upsampler.up_blocks.{i}.resnets.0.conv1.weight"))
        first_layers = [f"upsampler.up_blocks.{block}.resnets.0.conv1.weight" for block in reversed(range(blocks))]
        return LowLevelModel(
            voxel_counts=(voxel_count,),
            hidden_dim=hidden_dim,
            num_blocks=count(state, "mlp.{i}.0.weight"),
            latent_channels=shape("upsampler.conv_out.weight", 4)[0],
            latent_size=4 * isqrt(shape("lin1.weight")[0] // channels),
            widths=tuple(shape(layer, 4)[0] for layer in first_layers),
            maps=any(key.startswith("maps_projector.") for key in state),
        )


FORMAT = _LowLevelFormat("MindEye1 low-level", _PREFIXES)
