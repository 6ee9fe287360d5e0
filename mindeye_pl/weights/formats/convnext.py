"""The published VICRegL ConvNeXt-XL checkpoint (MindEye2, spec sections 1.1 and 6.4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.convnext import ConvNextMaps
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming

#: Heads that only the checkpoint's own training uses.
_UNUSED = ("projector.", "classifier.")

#: What stands before the first stage is named like what stands between two.
STEM = Renaming(
    {
        "backbone.downsample_layers.0.0.": "backbone.embeddings.patch_embeddings.",
        "backbone.downsample_layers.0.1.": "backbone.embeddings.layernorm.",
    }
)
RENAMING = Renaming(
    {
        "maps_projector.": "maps_projector.",
        "backbone.downsample_layers.{i}.0.": "backbone.encoder.stages.{i}.downsampling_layer.0.",
        "backbone.downsample_layers.{i}.1.": "backbone.encoder.stages.{i}.downsampling_layer.1.",
        "backbone.norm.": "backbone.layernorm.",
    }
)
_BLOCK = re.compile(r"backbone\.stages\.(\d+)\.(\d+)\.(dwconv|norm|pwconv1|pwconv2)\.(weight|bias)")
_FIRST = "backbone.downsample_layers.0.0.weight"


@dataclass(frozen=True)
class Sizes:
    """Arguments of `ConvNextMaps`."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    projection: int


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file, without the prefix of parallel training.

    Raises:
        UserError: see `read_state`.
    """
    return {key.removeprefix("module."): value for key, value in read_state(path, key="model").items()}


def sizes(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Every size, read off the shapes.

    Raises:
        UserError: if it is no such checkpoint.
    """
    for key in (_FIRST, "maps_projector.0.weight"):
        if key not in state:
            raise UserError(f"{path} is no VICRegL ConvNeXt", got=f"keys like {sorted(state)[0]}", expected=key)
    blocks = [(int(match[1]), int(match[2])) for key in state if (match := _BLOCK.fullmatch(key))]
    depths = [1 + max(block for stage, block in blocks if stage == number) for number in sorted({s for s, _ in blocks})]
    widths = [state[f"backbone.stages.{number}.0.norm.weight"].shape[0] for number in range(len(depths))]
    return Sizes(tuple(widths), tuple(depths), state["maps_projector.0.weight"].shape[0])


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part.
    """
    own = {}
    for key, value in state.items():
        if key.startswith(_UNUSED):
            continue
        if match := _BLOCK.fullmatch(key):
            stage, block, part, kind = match.groups()
            name = "layernorm" if part == "norm" else part
            own[f"backbone.encoder.stages.{stage}.layers.{block}.{name}.{kind}"] = value.float()
        elif (renamed := STEM.to_own(key) or RENAMING.to_own(key)) is None:
            raise UserError(f"{path} is no VICRegL ConvNeXt", got=key, expected="backbone.*, maps_projector.*")
        else:
            own[renamed] = value.float()
    return own


def build(sizes: Sizes) -> ConvNextMaps:
    """A model of these sizes, on the current default device."""
    return ConvNextMaps(widths=sizes.widths, depths=sizes.depths, projection=sizes.projection)
