"""Ridge regression from a subject's voxels to few pixels of the seen images, from which blurry images are made.

Legend: N training images, V voxels, s pixels along a side, T = 3 s^2 values of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Step, Work
from mindeye_pl.metrics.ridge_decoder import TrialDecomposition
from mindeye_pl.nn.brain.linear_blur import LinearBlur
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, subject_tags, subject_trials, trials_label
from mindeye_pl.steps.inputs.frozen_models import frozen_device
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json, read_tensors

#: Files: `weight` `(T, V)`, `bias` `(T,)` and `mean` `(3, s, s)`, the mean of the training images; the choices with
#: `spread`, by which predictions of left-out images have as much contrast as the images.
MAP, CHOICES = "linear_blur.safetensors", "choices.json"

#: Images that are read at once.
_BLOCK = 256
#: Pixels along a side for each pixel of the map at most: blurry images of 768 pixels would only fill the disk.
_ENLARGED = 8


class FitLinearBlur(Step):
    """Fits the map by the subject's own training trials, with the penalty that predicts left-out images best."""

    name = "fit_linear_blur"
    title = "Linear map to blurry images"
    keys = (
        *(*TRAINING_TRIALS, "data.subject", "data.num_sessions"),
        *("reconstruct.linear_blur.size", "reconstruct.linear_blur.penalties"),
    )
    runtime_keys = (*TRAINING_RUNTIME, "trainer.accelerator")

    def label(self, config: DictConfig) -> str:
        """Return subject, hours and seed."""
        return f"{trials_label(config)}-seed{config.seed}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the subject's trials and the images left out."""
        return {"data": training_data(config, [config.data.subject]), "split": Split()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, and write map and choices."""
        dataset, wanted = inputs["data"], settings.reconstruct.linear_blur
        data = subject_trials(dataset, settings, inputs["split"])
        (trials,) = data.train_trials
        decomposition = TrialDecomposition(
            data.normalised_betas(trials), trials.stimulus_ids, device=frozen_device(settings)
        )
        pixels = small_images(dataset.stimuli, decomposition.stimulus_ids, wanted.size)  # (N, 3, s, s)
        targets = pixels.flatten(1).to(decomposition.device)
        penalty, predicted = best_prediction(decomposition, targets, wanted.penalties)
        weight, bias = decomposition.coefficients(targets, penalty)
        of_images, left = (targets - targets.mean(0)).square().sum(), (targets - predicted).square().sum()
        found = {
            "penalty": penalty,
            "r2": float(1 - left / of_images.clamp_min(1e-30)),
            "spread": float((of_images / (predicted - predicted.mean(0)).square().sum().clamp_min(1e-30)).sqrt()),
        }
        tensors = {"weight": weight.T.contiguous().cpu(), "bias": bias.cpu(), "mean": pixels.mean(0)}
        write_tensors(work.folder / MAP, tensors)
        write_json(work.folder / CHOICES, found)
        size = f"{wanted.size} x {wanted.size} pixels"
        console.print(f"  {size}: penalty {penalty:g}, R² {found['r2']:.3f} on left-out images")


FIT_LINEAR_BLUR = FitLinearBlur()


def small_images(stimuli: Stimuli, ids: np.ndarray, size: int) -> Tensor:
    """Return images `(N, 3, s, s)` float32 in [0, 1], each pixel a mean over its area."""
    blocks = [stimuli.read(ids[start : start + _BLOCK]) for start in range(0, len(ids), _BLOCK)]
    return torch.cat([F.interpolate(torch.from_numpy(block).float(), size=size, mode="area") for block in blocks])


def best_prediction(
    decomposition: TrialDecomposition, targets: Tensor, penalties: Sequence[float]
) -> tuple[float, Tensor]:
    """Return the penalty that predicts the targets `(N, T)` of left-out images best, and these predictions `(N, T)`."""
    errors = {penalty: float((decomposition.residuals(penalty) @ targets).square().sum()) for penalty in penalties}
    best = min(errors, key=lambda penalty: errors[penalty])
    return best, targets - decomposition.residuals(best) @ targets


@dataclass(frozen=True)
class FittedBlur:
    """A finished step's map.

    Attributes:
        folder: of the step.
        contrast: of the images, as a share of the seen images'.
        strength: fraction of an image decoder's steps that start from them.
    """

    folder: Path
    contrast: float
    strength: float

    def load(self, image_size: tuple[int, int] | None = None) -> LinearBlur:
        """Return the map to images of (H, W), or of fewer pixels; None leaves its own."""
        tensors = read_tensors(self.folder / MAP)
        if image_size is not None:
            largest = _ENLARGED * tensors["mean"].shape[-1]
            image_size = min(image_size[0], largest), min(image_size[1], largest)
        spread = self.contrast * read_json(self.folder / CHOICES, dict[str, float])["spread"]
        return LinearBlur(**tensors, spread=spread, image_size=image_size)
