"""Test images with three responses each (MindEye2, spec section 1.5).

Test images are the shared1000, or the images that a split leaves out. Only the evaluation reads them.

Legend: N test images seen by the subject, R = 3 responses to each, V voxels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.betas import BetaNormalisation, read_betas
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.splits import LeftOut
from mindeye_pl.data.nsd.trials import Trials, assign_image_slots, load_test_trials
from mindeye_pl.errors import UserError
from mindeye_pl.types import Averaging


@dataclass
class TestSet:
    """Test images and the responses to them.

    A model processes the result of `queries`, and `average_repetitions` averages the outputs.
    """

    voxels: Tensor  # (N, R, V) float32; responses of images with fewer repetitions are duplicated
    stimulus_ids: Tensor  # (N,) int64, ascending
    weights: Tensor  # (N, R) float32, weight of each response in an image's output; rows sum to 1
    num_repetitions: Tensor  # (N,) int64, number of recorded responses, 1 to 3
    averaging: Averaging = "outputs"

    def queries(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the responses `(N, R', V)` that a model reads, and the weights `(N, R')` of its outputs.

        `weights` `(N, R)` replace the image's own. R' is R where outputs are averaged and 1 where voxels are.
        """
        weights = self.weights if weights is None else weights
        if self.averaging == "outputs":
            return self.voxels, weights
        return average_repetitions(self.voxels, weights)[:, None], torch.ones(len(weights), 1)


def load_test_set(
    layout: NSDLayout,
    subject: int,
    *,
    normalisation: BetaNormalisation,
    cache_dir: Path,
    split: str = "new_test",
    repetitions: str = "published",
    averaging: Averaging = "outputs",
    left_out: LeftOut | None = None,
) -> TestSet:
    """Read the test images of a subject and its responses in all sessions.

    The normalisation is fitted on the training trials of the sessions that the model was trained on; `cache_dir` holds
    the shard indices, `split` is "new_test" or the older "test" without the last three sessions, `repetitions` a key of
    `REPETITION_WEIGHTS`, `averaging` that of `TestSet`, and left-out images are tested instead of the shared1000.
    Raises a UserError if a file is missing or damaged, there is no trial, or an image has more than three repetitions.
    """
    trials = load_tested_trials(layout, subject, split, cache_dir, left_out)
    stimulus_ids, counts = np.unique(trials.stimulus_ids, return_counts=True)
    if counts.max() > nsd.REPETITIONS:
        what = f"{layout.shard(subject, split)} has too many repetitions of an image"
        raise UserError(what, got=counts.max(), expected=f"1 to {nsd.REPETITIONS}")
    rows = fill_repetitions(trials.stimulus_ids)  # (N, R)
    betas = normalisation(read_betas(layout, subject, trials.beta_rows))  # (n, V)
    return TestSet(
        voxels=torch.from_numpy(betas[rows]),
        stimulus_ids=torch.from_numpy(stimulus_ids),
        weights=torch.from_numpy(REPETITION_WEIGHTS[repetitions][counts]),
        num_repetitions=torch.from_numpy(counts.astype(np.int64)),
        averaging=averaging,
    )


def load_tested_trials(
    layout: NSDLayout, subject: int, split: str, cache_dir: Path, left_out: LeftOut | None
) -> Trials:
    """Return the test trials in temporal order; arguments as `load_test_set`."""
    load = load_test_trials if left_out is None else left_out.test_trials
    trials = load(layout, subject, split, cache_dir)
    if len(trials) == 0:
        raise UserError(f"{layout.shard(subject, split)} contains no test trial", fix="another data.test_split")
    return trials


#: Weights of the three responses by the number of recorded ones (rows 1 to 3), for each value of `data.repetitions`.
#: "published" counts the first of two responses twice (a, a, b, the order of the published inference script; its
#: training script's a, b, a has the same mean); "corrected" averages the recorded ones with equal weights; "single"
#: takes the first one alone (Mind Reader, spec section 2.1).
REPETITION_WEIGHTS = {
    "published": np.full((4, 3), 1 / 3, np.float32),
    "corrected": np.array([[0, 0, 0], [1, 0, 0], [1 / 2, 0, 1 / 2], [1 / 3, 1 / 3, 1 / 3]], np.float32),
    "single": np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], np.float32),
}


def fill_repetitions(stimulus_ids: np.ndarray) -> np.ndarray:
    """Return three trials per image, `(N, R)` indices, images ascending: a, a, a from one repetition, a, a, b from two.

    The stimulus ids `(n,)` are in temporal order, each one to three times.
    """
    # Repetition (0-based) in each of the three slots, by the number of recorded ones.
    filling = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 2]])
    return assign_image_slots(stimulus_ids, lambda counts: filling[counts])


def average_repetitions(outputs: Tensor, weights: Tensor) -> Tensor:
    """Average the outputs `(n, R, ...)` for the responses of each image by weights `(n, R)`, to `(n, ...)`.

    MindEye2 averages outputs (spec section 1.5), MindEye1 voxels (spec section 8); for an affine model both are equal.
    """
    return torch.einsum("nr,nr...->n...", weights.to(outputs), outputs)


def first_repetitions(num_repetitions: Tensor, count: int) -> Tensor:
    """Return weights `(n, R)` float32 that average the first `count` (1 to R) responses in time.

    Images with fewer recorded responses, by `num_repetitions` `(n,)`, use all of them.
    """
    # Response (1-based, in temporal order) in each slot of `fill_repetitions` by the recorded number; 0 if duplicated.
    slots = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 2], [1, 2, 3]])[num_repetitions]  # (n, R)
    used = (slots > 0) & (slots <= count)
    return used.float() / used.sum(1, keepdim=True)
