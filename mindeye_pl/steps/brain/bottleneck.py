"""The trained model behind a bottleneck: aligned vectors reduced to their first principal directions at test time.

Legend: h hidden width, r rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.nn.brain.bottleneck import Bottleneck, principal_directions
from mindeye_pl.steps.brain.alignment.shared_space import mean_aligned
from mindeye_pl.steps.brain.trained_model import ModelStep, Trained, TrainedModel
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, subject_trials
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.store.atomic import write_tensors
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.own_files import read_tensors

#: `mean` `(h,)`, `directions` `(r, h)` and `variances` `(r,)` of the training images' aligned vectors.
DIRECTIONS = "directions.safetensors"


class FitBottleneck(ModelStep):
    """Finds the principal directions of the aligned vectors of the subject's own training trials.

    A vector is the mean over an image's trials. The directions serve every number of dimensions, and no trial of a
    validation or test image takes part.
    """

    name = "fit_bottleneck"
    title = "Bottleneck"
    keys = (*TRAINING_TRIALS, "data.subject", "data.num_sessions")
    runtime_keys = TRAINING_RUNTIME

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trials, the images left out, and the trained model."""
        return {"data": training_data(config, [config.data.subject]), "split": Split(), "model": Trained()}

    def check(self, config: DictConfig) -> None:
        """Check that all that the model reads of a brain passes its alignment."""
        super().check(config)
        model, low_level = config.model, config.get("low_level")
        if model.get("alignment") is None:
            fix = "model=mindeye2, or bottleneck.dimensions=null"
            raise UserError("a bottleneck needs a model with an alignment", got=model._target_, fix=fix)
        if low_level is not None and not getattr(get_class(low_level._target_), "uses_backbone", True):
            what = "the low-level part reads the voxels past the bottleneck"
            fix = "low_level=none or low_level=vae_blur, or bottleneck.dimensions=null"
            raise UserError(what, got=low_level._target_, fix=fix)
        if (size := config.reconstruct.linear_blur.size) is not None:
            what, got = "the linear blur reads the voxels past the bottleneck", f"reconstruct.linear_blur.size={size}"
            raise UserError(what, got=got, fix="reconstruct.linear_blur.size=null, or bottleneck.dimensions=null")

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Align the training trials, and write mean and directions."""
        subject = settings.data.subject
        data = subject_trials(inputs["data"], settings, inputs["split"])
        ids, aligned = mean_aligned(inputs["model"].load(data.voxel_counts[subject]), data)
        mean, directions, variances = principal_directions(torch.from_numpy(aligned))
        tensors = {"mean": mean, "directions": directions, "variances": variances}
        write_tensors(work.folder / DIRECTIONS, tensors)
        fractions = variances.cumsum(0) / variances.sum()
        half = f"half of the variance in the first {int((fractions < 0.5).sum()) + 1}"
        console.print(f"  {len(directions)} directions from {len(ids)} images; {half}")


FIT_BOTTLENECK = FitBottleneck()


@dataclass(frozen=True)
class SqueezedModel(TrainedModel):
    """A trained system with a bottleneck, not loaded yet.

    Attributes:
        directions: file of the principal directions.
        dimensions: number of directions that are kept; all of them or more are as no bottleneck.
    """

    directions: Path
    dimensions: int

    def load(self, num_voxels: int) -> BrainDecoder:
        """Return the model in eval mode with its bottleneck; errors as of `TrainedModel`."""
        model, found = super().load(num_voxels), read_tensors(self.directions)
        if self.dimensions < len(found["directions"]):
            bottleneck = Bottleneck(found["mean"], found["directions"][: self.dimensions])
            model.parts()["alignment"].bottleneck = bottleneck.to(self.device)
        return model


@dataclass(frozen=True)
class Evaluated(Trained):
    """The trained model as it is evaluated, with a bottleneck where the configuration has one."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trained model's parts, and the directions."""
        more: dict[str, Input] = {} if dimensions_in(config) is None else {"directions": Made(FIT_BOTTLENECK)}
        return {**super().parts(config), **more}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the trained model and the number of dimensions."""
        own, dimensions = super().fingerprint(config), dimensions_in(config)
        return own if dimensions is None else fingerprint({"model": own, "dimensions": dimensions})

    def open(self, config: DictConfig, parts: Inputs) -> TrainedModel:
        """Return the model, not loaded yet."""
        trained, dimensions = super().open(config, parts), dimensions_in(config)
        if dimensions is None:
            return trained
        return SqueezedModel(**vars(trained), directions=parts["directions"] / DIRECTIONS, dimensions=dimensions)


class EvaluationStep(ModelStep):
    """A step that uses the trained model as it is evaluated."""

    def label(self, config: DictConfig) -> str:
        """Return the model's label and the dimensions of its bottleneck."""
        dimensions = dimensions_in(config)
        return super().label(config) + ("" if dimensions is None else f"-{dimensions}d")

    def tags(self, config: DictConfig) -> list[str]:
        """Return the model's tags and the dimensions of its bottleneck."""
        dimensions = dimensions_in(config)
        return super().tags(config) + ([] if dimensions is None else [f"dimensions={dimensions}"])


def dimensions_in(config: DictConfig) -> int | None:
    """Return the number of dimensions that the configuration's bottleneck keeps, None for no bottleneck."""
    dimensions: int | None = config.bottleneck.dimensions
    return dimensions
