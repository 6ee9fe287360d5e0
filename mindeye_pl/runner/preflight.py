"""Checks before anything long begins: files, device, settings; and the size of the model."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import torch
from omegaconf import DictConfig

from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.locks import storing
from mindeye_pl.training.build import parameter_counts


def missing_files(run: Run, steps: Sequence[Step]) -> list[str]:
    """Return the files that the steps need and that are missing, each with the command that fetches it."""
    found: dict[str, None] = {}
    for step in order(run.config, steps):
        step.check(run.config)
        for origin, one in run.leaves(step).values():
            found |= dict.fromkeys(one.missing(origin.config))
    return list(found)


def check_inputs(run: Run, steps: Sequence[Step]) -> None:
    """Check the files of every input, and what every step refuses of the configuration, before the first step.

    Raises:
        UserError: for the first file or setting that is wrong.
    """
    for step in order(run.config, steps):
        for origin, one in run.leaves(step).values():
            one.check(origin.config, origin.parts(one))
        run.spec(step)


def check_device(config: DictConfig) -> None:
    """Check that there is a GPU where `trainer` needs one.

    Raises:
        UserError: naming the option that uses the CPU.
    """
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer asks for a GPU", got="no CUDA device", expected="one", fix="trainer=cpu")


def check_reports(config: DictConfig) -> None:
    """Check that reports can be written, which is done after everything else.

    Raises:
        UserError: naming the option of another folder.
    """
    folder = Path(config.paths.reports)
    with storing(folder, "paths.reports"):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def size_line(config: DictConfig) -> str:
    """Return one line with the parameters of each part, counted on the meta device."""
    known = config.data.get("voxel_counts") or {}
    if config.data.subject not in known:
        return f"model at scale={config.scale.name}: its size depends on the data's voxel counts"
    counts = parameter_counts(config, [known[config.data.subject]])
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"model at scale={config.scale.name}: {parts} parameters; {sum(counts.values()):,} in all"
