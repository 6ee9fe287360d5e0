"""MindEye2 checkpoints that DeepSpeed saved: a folder of ZeRO partitions, assembled without DeepSpeed.

Each rank has a slice of every parameter group as a flat float32 vector. The concatenated slices are the group's
parameters in the order of `param_shapes`, followed by padding.
"""

import re
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.weights.safe_unpickling import read_torch

_MODEL = "mp_rank_00_model_states.pt"
#: The file that names the folder of the last checkpoint, in up to this many bytes.
_LATEST, _LONGEST_TAG = "latest", 255
_PARTITION = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt")


def is_deepspeed(path: Path) -> bool:
    """Return if a path is such a folder, or the folder above it whose file `latest` names it.

    Raises a UserError if that file names anything else than a folder beside it.
    """
    return path.is_dir() and (_tagged(path) / _MODEL).is_file()


def checkpoint_files(path: Path) -> list[Path]:
    """Return the files of the model and of all ranks, in order; raises a UserError if a rank's file is missing."""
    folder = _tagged(path)
    ranks = {int(match[1]): file for file in folder.iterdir() if (match := _PARTITION.fullmatch(file.name))}
    missing = [rank for rank in range(max(ranks, default=0) + 1) if rank not in ranks]
    if missing:
        raise _incomplete(folder, f"no file of rank {missing[0]}")
    return [folder / _MODEL, *(ranks[rank] for rank in sorted(ranks))]


def read_deepspeed(path: Path) -> dict[str, Tensor]:
    """Return the float32 weights and the buffers of a checkpoint of ZeRO stage 1 or 2, by their published names.

    Raises a UserError if a file is missing or damaged, was saved by stage 3, or the partitions do not hold the
    parameters.
    """
    model_file, *rank_files = checkpoint_files(path)
    try:
        model = read_torch(model_file, foreign="ignore")
        return _assembled(path, model, [_read_partitions(file) for file in rank_files])
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise _incomplete(path, repr(error)) from error


def _incomplete(path: Path, got: str, expected: object = None) -> UserError:
    return UserError(f"{path} is not a complete DeepSpeed checkpoint", got=got, expected=expected)


def _assembled(path: Path, model: dict[str, Any], ranks: list[tuple[list[Tensor], int | None]]) -> dict[str, Tensor]:
    groups: list[dict[str, torch.Size]] = list(model["param_shapes"])
    if not ranks or any(len(slices) != len(groups) for slices, _ in ranks):
        raise _incomplete(path, "another number of parameter groups")
    if (count := ranks[0][1]) not in (None, len(ranks)):
        raise _incomplete(path, f"{len(ranks)} ranks", count)
    state: dict[str, Tensor] = {name: model["module"][name].float() for name in model.get("buffer_names", ())}
    for index, shapes in enumerate(groups):
        flat = torch.cat([slices[index] for slices, _ in ranks])
        sizes = [prod(shape) for shape in shapes.values()]
        if len(flat) < sum(sizes):
            raise _incomplete(path, f"{len(flat)} numbers", sum(sizes))
        for (name, shape), part in zip(shapes.items(), flat[: sum(sizes)].split(sizes), strict=True):
            state[name] = part.view(shape)
    for alias, name in dict(model.get("shared_params") or {}).items():
        state[alias] = state[name]
    # Frozen parameters are in no optimiser, only in the model.
    for name in model.get("frozen_param_shapes") or ():
        state[name] = model["module"][name].float()
    return state


def _read_partitions(file: Path) -> tuple[list[Tensor], int | None]:
    """Return a rank's slice of each group, and the number of ranks that the file names."""
    content: dict[str, Any] = read_torch(file, foreign="ignore")["optimizer_state_dict"]
    if "fp32_flat_groups" in content:
        fix = "assemble it with the zero_to_fp32.py that DeepSpeed writes into the folder, and use its last.pth"
        raise UserError(f"{file} was saved by ZeRO stage 3", expected="stage 1 or 2", fix=fix)
    count = content.get("partition_count")
    count = max(count) if isinstance(count, list | tuple) else count if isinstance(count, int) else None
    return content["single_partition_of_fp32_groups"], count


def _tagged(path: Path) -> Path:
    """Return the folder below `path` that its file `latest` names, `path` itself where it has no such file."""
    if not (latest := path / _LATEST).is_file():
        return path
    with latest.open("rb") as file:
        content = file.read(_LONGEST_TAG + 1)
    tag = content.decode(errors="replace").strip()
    # The folder may come from somebody else: its checkpoint is read from nowhere else.
    if "\ufffd" in tag or "\0" in tag or tag in ("", "..") or Path(tag).name != tag or len(content) > _LONGEST_TAG:
        raise UserError(f"{latest} names no folder beside it", got=repr(tag[:40]), expected="the name of a folder")
    return path / tag
