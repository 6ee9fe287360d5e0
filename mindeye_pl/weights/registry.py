"""Published checkpoints: one adapter for each format."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye
from mindeye_pl.store.atomic import replacing
from mindeye_pl.types import OneOf
from mindeye_pl.weights.formats import (
    bigg_to_l,
    convnext,
    gnet,
    mind_reader_mapper,
    mindeye1,
    mindeye1_low_level,
    mindeye2,
    sdxl_base,
    unclip,
    versatile_diffusion,
)

#: The formats, by the name that `load_published` takes.
ADAPTERS: dict[str, Any] = {
    "mindeye2": mindeye2,
    "mindeye1": mindeye1,
    "mindeye1_low_level": mindeye1_low_level,
    "mind_reader_mapper": mind_reader_mapper,
    "unclip": unclip,
    "versatile_diffusion": versatile_diffusion,
    "bigg_to_l": bigg_to_l,
    "sdxl_base": sdxl_base,
    "convnext": convnext,
    "gnet": gnet,
}


def load_published(kind: Annotated[str, OneOf(ADAPTERS)], path: str | Path, **options: Any) -> Any:
    """The model of a published checkpoint, on the CPU in eval mode, every size read off the file.

    Every key of the file is used: one that belongs to no part is an error.

    Args:
        kind: `mindeye2` | `mindeye1` | `mindeye1_low_level` | `mind_reader_mapper` | `unclip` | `versatile_diffusion` |
            `bigg_to_l` | `sdxl_base` | `convnext` | `gnet`.
        path: the checkpoint, `last.pth` or `unclip.ckpt` for instance; of Versatile Diffusion its pipeline's folder.
        options: what the shapes do not tell: `head_dim` of an unCLIP's attention heads, 64 where nothing is said, the
            `image_size` that it makes, 768, and its `output`, see `UnCLIPModel`; `sigmoid` of a mapper.

    Raises:
        UserError: when the file is missing, broken, of another architecture, or a pickle with code in it.
    """
    path = Path(path)
    return published_model(kind, ADAPTERS[kind].read(path), path, **options)


def published_model(kind: str, published: Mapping[str, Tensor], path: Path, **options: Any) -> Any:
    """The model of a published state dict; see `load_published`.

    Args:
        kind: the format.
        published: the state dict.
        path: where it comes from, for the words of an error.
        options: what the shapes do not tell.

    Raises:
        UserError: when it is of another architecture.
    """
    adapter = ADAPTERS[kind]
    own = adapter.to_own(published, path)
    with torch.device("meta"):
        model = adapter.build(adapter.sizes(published, path, **options))
    check_weights({key: tuple(value.shape) for key, value in model.state_dict().items()}, own, path)
    model.load_state_dict(own, assign=True)
    if reset_buffers := getattr(model, "reset_buffers", None):
        reset_buffers()  # buffers that are not stored have no values on the meta device
    return model.to("cpu").eval()  # Lightning's modules remember the meta device otherwise


def load_published_system(path: str | Path) -> MindEye:
    """The model of a published checkpoint of MindEye2 or of MindEye1, whichever its keys say; see `load_published`."""
    path = Path(path)
    kind, published = _system_of(path)
    return published_model(kind, published, path)


def read_published_system(path: str | Path) -> dict[str, Tensor]:
    """The weights of such a checkpoint under the project's own names.

    Raises:
        UserError: as `load_published`.
    """
    path = Path(path)
    kind, published = _system_of(path)
    return ADAPTERS[kind].to_own(published, path)


def _system_of(path: Path) -> tuple[str, dict[str, Tensor]]:
    published = mindeye2.read(path)  # MindEye1's files are of the same format
    return "mindeye1" if mindeye1.is_mindeye1(published) else "mindeye2", published


def save_published(kind: str, model: torch.nn.Module, path: str | Path) -> None:
    """Writes a model as a checkpoint in the published format, for the published code to read.

    `load_published` makes the same weights of it, bit for bit.

    Args:
        kind: `mindeye2` | `mindeye1` | `mindeye1_low_level` | `mind_reader_mapper` | `unclip`.
        model: a `MindEye2`, a `MindEye1`, a `LowLevelModel`, a `VoxelCNN`, or an `UnCLIPModel` of SDXL's kind.
        path: for instance `last.pth` or `unclip.safetensors`; written atomically.

    Raises:
        UserError: for a model that the published code would compute otherwise, or a path that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path, adapter = Path(path), ADAPTERS[kind]
    state = {key: _alone(value) for key, value in adapter.to_published(model).items()}
    try:
        with replacing(path) as temporary:
            if path.suffix == ".safetensors":
                save_file(state, str(temporary))
            else:
                torch.save(state if adapter.STATE_KEY is None else {adapter.STATE_KEY: state}, temporary)
    except (RuntimeError, OSError, SafetensorError) as error:
        if path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.is_dir():
            raise
        raise UserError(f"{path} cannot be written", got=error, expected="a file in a folder of yours") from error


def _alone(value: Tensor) -> Tensor:
    """Without the rest of a storage that it is a part of, which would be written too."""
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def read_published(kind: str, path: str | Path) -> dict[str, Tensor]:
    """The weights of a published checkpoint under the project's own names.

    Raises:
        UserError: as `load_published`.
    """
    adapter, path = ADAPTERS[kind], Path(path)
    return adapter.to_own(adapter.read(path), path)


def check_weights(wanted: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuses weights of another architecture.

    Args:
        wanted: the shape of every weight.
        weights: what the file holds.
        path: the file.

    Raises:
        UserError: naming the first weight that is missing, left over or of another shape.
    """
    for key in sorted(wanted.keys() | weights.keys()):
        seen = tuple(weights[key].shape) if key in weights else "missing"
        want = wanted.get(key, "no such weight")
        if seen != want:
            raise UserError(
                f"{path} is a checkpoint of another architecture: {key}",
                got=seen,
                expected=want,
                fix="scale= and model= as the checkpoint was trained with, or another checkpoint",
            )
