"""Weights of a model: safetensors files and published checkpoints."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.store.atomic import replacing, write_tensors
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.weights.deepspeed import checkpoint_files, is_deepspeed
from mindeye_pl.weights.locate import is_whole_checkpoint
from mindeye_pl.weights.registry import check_weights, read_published, read_system
from mindeye_pl.weights.safe_unpickling import DOWNLOAD, content_of

WEIGHTS = "model.safetensors"

#: Parts that a configuration can leave out by `NAME=none`, with the other fix for a file without it.
_OPTIONAL = {
    "low_level": "evaluate.low_level_checkpoint= for MindEye1, whose low-level model is a file of its own",
    "prior": "another checkpoint",
}


def checkpoint_fingerprint(option: str, path: Path) -> str:
    """Return the fingerprint of a user's checkpoint: a file, or a folder that DeepSpeed saved.

    Raises a `UserError` that names the option if the path does not exist.
    """
    files = _files(option, path)
    return (
        fingerprint_file(path) if files == [path] else fingerprint({one.name: fingerprint_file(one) for one in files})
    )


def check_whole(option: str, path: Path) -> None:
    """Check, without reading it whole, that a user's checkpoint is one that is not cut off.

    Raises a `UserError` that names the option for a path that does not exist, and for a file that is something else.
    """
    for file in _files(option, path):
        if not is_whole_checkpoint(file):
            expected = "a complete weight file"
            raise UserError(f"{option}: {file} is not whole", got=content_of(file), expected=expected, fix=DOWNLOAD)


def _files(option: str, path: Path) -> list[Path]:
    if is_deepspeed(path):
        return checkpoint_files(path)
    if path.is_dir() or not path.exists():
        what = f"{option} is no checkpoint" if path.is_dir() else f"{option} does not exist"
        expected = "a .safetensors or .pth file, or the folder of a DeepSpeed checkpoint"
        raise UserError(what, got=path, expected=expected)
    return [path]


def save_weights(model: torch.nn.Module, path: Path, gathered: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights as safetensors: those of `model`, or those `gathered` from all ranks where it is sharded."""
    from safetensors.torch import save_model

    if gathered is not None:
        write_tensors(path, gathered)
        return
    with replacing(path) as temporary:
        save_model(model, str(temporary))


def read_weights(path: Path, low_level: Path | None = None) -> dict[str, Tensor]:
    """Return the weights of a safetensors file, or of a published checkpoint, under the project's names.

    `low_level` is the published checkpoint of MindEye1's low-level model. Raises a `UserError` for a file that is
    missing, broken, of another kind, or a pickle with code in it.
    """
    weights = read_system(path)
    if low_level is not None:
        own = read_published("mindeye1_low_level", low_level)
        weights |= {f"low_level.network.{key}": value for key, value in own.items()}
    return weights


def load_weights(model: BrainDecoder, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights.

    Raises a `UserError` that names a part which only the model or only the file has, else the first weight that is
    missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    _check_parts(wanted, weights, path)
    check_weights(wanted, weights, path)
    model.load_state_dict(dict(weights))


def _check_parts(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise a `UserError` for a file of the same system that lacks an optional part of the model, or has one more."""
    (expected, first), (found, _) = _parts(wanted), _parts(weights)
    missing, more = [part for part in expected if part not in found], [part for part in found if part not in expected]
    if not set(missing + more) <= _OPTIONAL.keys():
        return  # of another system
    parts = {"got": ", ".join(found), "expected": ", ".join(expected)}
    if missing:
        what = f"{path} has no {missing[0]}: {first[missing[0]]} is missing"
        raise UserError(what, **parts, fix=f"{missing[0]}=none, or {_OPTIONAL[missing[0]]}")
    if more:
        what = f"{path} has a part that the configured model has not: {more[0]}"
        raise UserError(what, **parts, fix=f"{more[0]}= as the checkpoint was trained with")


def _parts(weights: Mapping[str, Tensor]) -> tuple[list[str], dict[str, str]]:
    """Return the parts in a state dict, and the first weight of each."""
    first: dict[str, str] = {}
    for name in weights:
        first.setdefault(name.split(".")[0], name)
    return sorted(first), first


def load_shared_weights(model: BrainDecoder, weights: Mapping[str, Tensor], path: Path, *, inherit_bias: str) -> None:
    """Load the weights of a pretrained model that a new subject shares: all but those that read a subject's voxels.

    `inherit_bias=published` also takes over the alignment bias of the first pretraining subject, as the published
    fine-tuning does (MindEye2, spec section 6.7). Errors as of `load_weights`.
    """
    of_subjects = model.subject_parameters()
    own = {key: value for key, value in model.state_dict().items() if key.startswith(of_subjects)}
    shared = {key: value for key, value in weights.items() if not key.startswith(of_subjects)}
    for prefix in of_subjects:
        if inherit_bias == "published" and (first := f"{prefix}linears.0.bias") in weights:
            own[first] = weights[first]
    load_weights(model, own | shared, path)
