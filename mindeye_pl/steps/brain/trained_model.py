"""The trained model that evaluation and reconstruction read: the fine-tuned one, or a checkpoint of the user's."""

from pathlib import Path
from typing import Any

from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.training.build import build_model, voxel_counts
from mindeye_pl.training.checkpoints import WEIGHTS, checkpoint_fingerprint, load_weights, read_weights


def checkpoint_steps(run: Run) -> tuple[Step, ...]:
    """The step that makes the model; none where the user brings a checkpoint."""
    return (FINETUNE,) if run.config.evaluate.checkpoint is None else ()


def checkpoint_identity(run: Run) -> tuple[str, dict[str, Any], dict[str, str]]:
    """A label, and what it adds to `determined_by` and `inputs` of the artifacts that are made from the model."""
    if run.config.evaluate.checkpoint is None:
        spec = run.spec(FINETUNE)
        return spec.label, {}, {"finetune": spec.fingerprint}
    path = checkpoint_path(run)
    label = f"subj0{run.config.data.subject}-{path.stem}"
    inputs = {"checkpoint": checkpoint_fingerprint("evaluate.checkpoint", path)}
    if (low_level := _low_level_path(run)) is not None:
        inputs["low_level"] = checkpoint_fingerprint("evaluate.low_level_checkpoint", low_level)
    return label, run.plain("model"), inputs


def _low_level_path(run: Run) -> Path | None:
    given = run.config.evaluate.low_level_checkpoint
    if given is not None and run.config.evaluate.checkpoint is None:
        wanted = "evaluate.checkpoint=last.pth, which it goes with"
        raise UserError("evaluate.low_level_checkpoint stands alone", got=given, expected=wanted)
    return None if given is None else Path(given)


def checkpoint_path(run: Run) -> Path:
    """The weights, made now where they are missing."""
    given = run.config.evaluate.checkpoint
    return Path(given) if given is not None else run.make(FINETUNE).folder / WEIGHTS


def trained_model(run: Run, num_voxels: int) -> BrainDecoder:
    """The model in eval mode, on the device of `trainer`.

    Raises:
        UserError: if it was trained on other voxels or is of another architecture.
    """
    path = checkpoint_path(run)
    weights = read_weights(path, _low_level_path(run))
    found = voxel_counts(run.config, weights)
    if found and found[0] != num_voxels:
        raise UserError(
            f"{path} was trained on other voxels than those of subject {run.config.data.subject}",
            got=f"{num_voxels} voxels in the data",
            expected=f"{found[0]} voxels, as in the checkpoint",
            fix="data.subject= the subject that the checkpoint belongs to",
        )
    model = build_model(run.config, [num_voxels])
    load_weights(model, weights, path)
    return model.eval().to(run.device)
