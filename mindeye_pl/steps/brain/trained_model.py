"""The trained model that evaluation and reconstruction read: the fine-tuned one, or a checkpoint of the user's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from mindeye_pl.engine.settings import Settings, declare, resolve, select
from mindeye_pl.engine.step import Input, Inputs, Made, Step
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.trials import subject_tags
from mindeye_pl.steps.inputs.checkpoint_file import CheckpointFile
from mindeye_pl.steps.inputs.frozen_models import frozen_device
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.training.build import build_model, voxel_counts
from mindeye_pl.training.checkpoints import WEIGHTS, load_weights, read_weights


@dataclass(frozen=True)
class TrainedModel:
    """A trained system, not loaded yet.

    Attributes:
        path: of its weights.
        low_level: of the weights of MindEye1's low-level model, where they are a file of their own.
        settings: `model` and `seed`.
    """

    path: Path
    low_level: Path | None
    settings: Settings
    device: torch.device
    subject: int

    def load(self, num_voxels: int) -> BrainDecoder:
        """Return the model in eval mode; one of several subjects, other voxels or another architecture is refused."""
        weights = read_weights(self.path, self.low_level)
        found = voxel_counts(self.settings, weights)
        if len(found) > 1:
            raise UserError(
                f"{self.path} is a model of several subjects",
                got=f"alignments of {len(found)} subjects, which the file does not name",
                expected="a model that was fine-tuned to one subject",
                fix="finetune.checkpoint= it, which fine-tunes it to data.subject",
            )
        if found and found[0] != num_voxels:
            raise UserError(
                f"{self.path} was trained on other voxels than those of subject {self.subject}",
                got=f"{num_voxels} voxels in the data",
                expected=f"{found[0]} voxels, as in the checkpoint",
                fix="data.subject= the subject that the checkpoint belongs to",
            )
        model = build_model(self.settings, [num_voxels])
        load_weights(model, weights, self.path)
        return model.eval().to(self.device)


@dataclass(frozen=True)
class Trained(Input):
    """The model that is evaluated; opened, a `TrainedModel`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the fine-tuning, or the user's checkpoints."""
        if config.evaluate.checkpoint is None:
            return {"finetune": Made(FINETUNE)}
        parts: dict[str, Input] = {"checkpoint": CheckpointFile("evaluate.checkpoint")}
        if config.evaluate.low_level_checkpoint is not None:
            parts["low_level"] = CheckpointFile("evaluate.low_level_checkpoint")
        return parts

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of a checkpoint's architecture; a fine-tuning's own has it."""
        return (
            None if config.evaluate.checkpoint is None else fingerprint(select(resolve(config, ["model"]), ["model"]))
        )

    def open(self, config: DictConfig, parts: Inputs) -> TrainedModel:
        """Return the model, not loaded yet."""
        path = parts["checkpoint"] if "checkpoint" in parts else parts["finetune"] / WEIGHTS
        low_level = parts.get("low_level")
        settings = declare(resolve(config, keys := ("model", "seed")), keys)
        return TrainedModel(path, low_level, settings, frozen_device(config), config.data.subject)


class ModelStep(Step):
    """A step that uses the trained model."""

    def label(self, config: DictConfig) -> str:
        """Return the fine-tuning's label, or the checkpoint's name."""
        given = config.evaluate.checkpoint
        return FINETUNE.label(config) if given is None else f"subj{config.data.subject:02d}-{Path(given).stem}"

    def check(self, config: DictConfig) -> None:
        """Check that MindEye1's low-level checkpoint is not given alone."""
        given = config.evaluate.low_level_checkpoint
        if given is not None and config.evaluate.checkpoint is None:
            expected = "evaluate.checkpoint=last.pth, which it belongs to"
            raise UserError("evaluate.low_level_checkpoint is given alone", got=given, expected=expected)

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject, hours, and how the training of the model started."""
        start = config.finetune.start if config.evaluate.checkpoint is None else "checkpoint"
        return [*subject_tags(config), start]
