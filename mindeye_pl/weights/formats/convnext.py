"""The published VICRegL ConvNeXt-XL checkpoint (MindEye2, spec sections 1.1 and 6.4)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mindeye_pl.nn.features.convnext import ConvNextMaps
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import count

#: Heads that only the checkpoint's own training uses.
_UNUSED = ("projector.", "classifier.")

_BLOCK = {"dwconv": "dwconv", "norm": "layernorm", "pwconv1": "pwconv1", "pwconv2": "pwconv2"}
_PREFIXES = {
    "backbone.downsample_layers.0.0.": "backbone.embeddings.patch_embeddings.",  # the stem
    "backbone.downsample_layers.0.1.": "backbone.embeddings.layernorm.",
    "backbone.downsample_layers.{i}.0.": "backbone.encoder.stages.{i}.downsampling_layer.0.",
    "backbone.downsample_layers.{i}.1.": "backbone.encoder.stages.{i}.downsampling_layer.1.",
    **{
        f"backbone.stages.{{i}}.{{j}}.{theirs}.": f"backbone.encoder.stages.{{i}}.layers.{{j}}.{ours}."
        for theirs, ours in _BLOCK.items()
    },
    "backbone.norm.": "backbone.layernorm.",
    "maps_projector.": "maps_projector.",
}


class _ConvNextFormat(PublishedFormat):
    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the state dict without the prefix of parallel training and without unused heads."""
        state = {key.removeprefix("module."): value for key, value in super().read(path).items()}
        return {key: value for key, value in state.items() if not key.startswith(_UNUSED)}

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        return {key: value.float() for key, value in super().to_own(state, path).items()}

    def build(self, state: Mapping[str, Tensor], path: Path) -> ConvNextMaps:
        self.require(state, path, "backbone.downsample_layers.0.0.weight", "maps_projector.0.weight")
        shape, stages = self.shapes(state, path), range(count(state, "backbone.stages.{i}."))
        depths = [count(state, f"backbone.stages.{stage}.{{i}}.") for stage in stages]
        widths = [shape(f"backbone.stages.{stage}.0.norm.weight", 1)[0] for stage in stages]
        return ConvNextMaps(widths=widths, depths=depths, projection=state["maps_projector.0.weight"].shape[0])


FORMAT = _ConvNextFormat("VICRegL ConvNeXt", _PREFIXES, state_key="model")
