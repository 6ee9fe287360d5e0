"""Published checkpoints: loading, reading and writing by the name of their format."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye
from mindeye_pl.sharing.folder import assign
from mindeye_pl.store.atomic import replacing, write_tensors
from mindeye_pl.types import OneOf
from mindeye_pl.weights.files import Module, fill
from mindeye_pl.weights.formats import (
    bigg_to_l,
    convnext,
    cortexdecoder_bridge,
    gnet,
    mind_reader_mapper,
    mindeye1,
    mindeye2,
    sdxl_base,
    unclip,
    versatile_diffusion,
)
from mindeye_pl.weights.formats.published_format import PublishedFormat

#: Formats by the name that `load_published` takes.
FORMATS: dict[str, PublishedFormat] = {
    "mindeye2": mindeye2.FORMAT,
    "mindeye1": mindeye1.FORMAT,
    "mindeye1_low_level": mindeye1.LOW_LEVEL,
    "mind_reader_mapper": mind_reader_mapper.FORMAT,
    "unclip": unclip.FORMAT,
    "versatile_diffusion": versatile_diffusion.FORMAT,
    "bigg_to_l": bigg_to_l.FORMAT,
    "sdxl_base": sdxl_base.FORMAT,
    "convnext": convnext.FORMAT,
    "gnet": gnet.FORMAT,
    "cortexdecoder_bridge": cortexdecoder_bridge.FORMAT,
}


def load_published(kind: Annotated[str, OneOf(FORMATS)], path: str | Path, **options: Any) -> Any:
    """Load the model of a published checkpoint, on the CPU in eval mode; sizes are read from the shapes.

    Args:
        kind: name of the format.
        path: checkpoint, for example `last.pth` or `unclip.ckpt`; for Versatile Diffusion the pipeline's folder.
        options: sizes that the shapes do not give: `head_dim` of an unCLIP's attention heads (64), its `image_size`
            (768) and `output` (see `UnCLIPModel`); `sigmoid` of a mapper; `heads` of a bridge (8).

    Raises a UserError if the file is missing, damaged, of another architecture, or a pickle with code in it. A key that
    no part of the model uses counts as another architecture.
    """
    path = Path(path)
    return published_model(kind, FORMATS[kind].read(path), path, **options)


def published_model(kind: str, published: Mapping[str, Tensor], path: Path, **options: Any) -> Any:
    """Build the model of a published state dict, which was read from `path`; otherwise as `load_published`."""
    own = FORMATS[kind].to_own(published, path)
    with torch.device("meta"):
        model = FORMATS[kind].build(published, path, **options)
    check_weights(model.state_dict(), own, path)
    assign(model, own)
    if reset_buffers := getattr(model, "reset_buffers", None):
        reset_buffers()  # buffers that are not stored have no values on the meta device
    return model.to("cpu").eval()  # Lightning's modules remember the meta device otherwise


def load_published_system(path: str | Path) -> MindEye:
    """Load a published checkpoint of MindEye2 or MindEye1, determined by its keys; otherwise as `load_published`."""
    kind, published = _read_system(Path(path))
    return published_model(kind, published, Path(path))


def read_system(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a system under the project's names, of its own file or a published checkpoint.

    A safetensors file holds either; which, its names tell. Raises a UserError as `load_published`.
    """
    path = Path(path)
    kind, published = _read_system(path)
    if path.suffix == ".safetensors" and not (mindeye1.is_mindeye1(published) or mindeye2.is_mindeye2(published)):
        return published
    return FORMATS[kind].to_own(published, path)


def _read_system(path: Path) -> tuple[str, dict[str, Tensor]]:
    published = mindeye2.FORMAT.read(path)  # MindEye1's files have the same format
    return "mindeye1" if mindeye1.is_mindeye1(published) else "mindeye2", published


def read_published(kind: str, path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under the project's names; raises a UserError as `load_published`."""
    return FORMATS[kind].to_own(FORMATS[kind].read(Path(path)), Path(path))


def save_published(kind: str, model: torch.nn.Module, path: str | Path) -> None:
    """Write a model as a published checkpoint, from which `load_published` restores the same weights bit for bit.

    Args:
        kind: `mindeye2` | `mindeye1` | `mindeye1_low_level` | `mind_reader_mapper` | `unclip` | `cortexdecoder_bridge`.
        model: a `MindEye2`, a `MindEye1`, a `LowLevelModel`, a `VoxelCNN`, an `UnCLIPModel` of SDXL's architecture, or
            a `TokenBridge`.
        path: for example `last.pth` or `unclip.safetensors`; written atomically.

    Raises a UserError for a model that the published code would compute differently, or if the path cannot be written.
    """
    from safetensors import SafetensorError

    path, key = Path(path), FORMATS[kind].state_key
    state = {name: _without_rest(value) for name, value in FORMATS[kind].to_published(model).items()}
    try:
        if path.suffix == ".safetensors":
            write_tensors(path, state)
        else:
            with replacing(path) as temporary:
                torch.save(state if key is None else {key: state}, temporary)
    except (RuntimeError, OSError, SafetensorError) as error:
        if path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.is_dir():
            raise
        raise UserError(f"{path} cannot be written", got=error, expected="a file in a folder of your own") from error


def _without_rest(value: Tensor) -> Tensor:
    """Return the tensor without the rest of its storage, which would be written too."""
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def build_filled(build: Callable[[], Module], weights: Mapping[str, Tensor], path: Path) -> Module:
    """Build a frozen module in eval mode with the weights of a file, and without other memory, as `check_weights`."""
    with torch.device("meta"):
        module = build()
    check_weights(module.state_dict(), weights, path)
    return fill(module, weights)


def check_weights(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Check that the weights of a file have the names and shapes of a model's state dict `wanted`.

    Raises a UserError naming the first weight that is missing, unexpected or of another shape.
    """
    for key in sorted(wanted.keys() | weights.keys()):
        got = tuple(weights[key].shape) if key in weights else "missing"
        expected = tuple(wanted[key].shape) if key in wanted else "no such weight"
        if got != expected:
            fix = "scale= and model= as the checkpoint was trained with, or another checkpoint"
            what = f"{path} is a checkpoint of another architecture: {key}"
            raise UserError(what, got=got, expected=expected, fix=fix)
