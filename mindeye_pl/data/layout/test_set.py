"""Test images with equally many responses each, three in NSD (MindEye2, spec section 1.5).

Test images are the shared1000, or the images that a split leaves out. Only the evaluation reads them.

Legend: N test images seen by the subject, R responses to each, V voxels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.layout.betas import BetaNormalisation, read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.splits import LeftOut
from mindeye_pl.data.layout.trials import Trials, assign_image_slots, load_test_trials
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
    num_repetitions: Tensor  # (N,) int64, number of recorded responses, 1 to R
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
    layout: DataLayout,
    subject: int,
    *,
    normalisation: BetaNormalisation,
    cache_dir: Path,
    split: str = "new_test",
    repetitions: str = "published",
    max_repetitions: int | None = None,
    averaging: Averaging = "outputs",
    left_out: LeftOut | None = None,
) -> TestSet:
    """Read the test images of a subject and its responses in all sessions.

    The normalisation is fitted on the training trials of the sessions that the model was trained on; `cache_dir` holds
    the shard indices, `split` is "new_test" or the older "test" without the last three sessions, `repetitions` a key of
    `REPETITION_WEIGHTS`, `max_repetitions` the number R (None: what these trials have), `averaging` that of `TestSet`.
    Left-out images are tested instead of the shared1000. Raises a UserError if a file is missing or damaged, there is
    no trial, or an image has more than R repetitions.
    """
    trials = load_tested_trials(layout, subject, split, cache_dir, left_out)
    stimulus_ids, counts = np.unique(trials.stimulus_ids, return_counts=True)
    slots = int(counts.max()) if max_repetitions is None else max_repetitions
    if counts.max() > slots:
        what = f"{layout.shard(subject, split)} has too many repetitions of an image"
        fix = f"data.max_repetitions={counts.max()}"
        raise UserError(what, got=counts.max(), expected=f"1 to {slots}, data.max_repetitions", fix=fix)
    rows = fill_repetitions(trials.stimulus_ids, slots)  # (N, R)
    betas = normalisation(read_betas(layout, subject, trials.beta_rows))  # (n, V)
    return TestSet(
        voxels=torch.from_numpy(betas[rows]),
        stimulus_ids=torch.from_numpy(stimulus_ids),
        weights=torch.from_numpy(REPETITION_WEIGHTS[repetitions](slots)[counts]),
        num_repetitions=torch.from_numpy(counts.astype(np.int64)),
        averaging=averaging,
    )


def load_tested_trials(
    layout: DataLayout, subject: int, split: str, cache_dir: Path, left_out: LeftOut | None
) -> Trials:
    """Return the test trials in temporal order; arguments as `load_test_set`."""
    load = load_test_trials if left_out is None else left_out.test_trials
    trials = load(layout, subject, split, cache_dir)
    if len(trials) == 0:
        raise UserError(f"{layout.shard(subject, split)} contains no test trial", fix="another data.test_split")
    return trials


def _published(slots: int) -> np.ndarray:
    return np.full((slots + 1, slots), 1 / slots, np.float32)


def _corrected(slots: int) -> np.ndarray:
    weights = np.zeros((slots + 1, slots), np.float32)
    for count in range(1, slots + 1):  # the first slot, and the last ones, have responses of their own
        weights[count, [0, *range(slots - count + 1, slots)]] = 1 / count
    return weights


def _single(slots: int) -> np.ndarray:
    return np.repeat(np.eye(1, slots, dtype=np.float32), slots + 1, 0)


#: Weights of the R responses by the number of recorded ones, (R + 1, R), for each value of `data.repetitions`.
#: "published" counts the first of two responses twice (a, a, b, the order of the published inference script; its
#: training script's a, b, a has the same mean); "corrected" averages the recorded ones with equal weights; "single"
#: takes the first one alone (Mind Reader, spec section 2.1).
REPETITION_WEIGHTS: dict[str, Callable[[int], np.ndarray]] = {
    "published": _published,
    "corrected": _corrected,
    "single": _single,
}


def fill_repetitions(stimulus_ids: np.ndarray, slots: int) -> np.ndarray:
    """Return `slots` trials per image, `(N, R)` indices, images ascending; the first fills the slots that are left.

    Of three slots that is a, a, a from one repetition and a, a, b from two. The stimulus ids `(n,)` are in temporal
    order, each one to R times.
    """
    return assign_image_slots(stimulus_ids, lambda counts: _recorded(counts, slots))


def _recorded(counts: np.ndarray, slots: int) -> np.ndarray:
    """Return the repetition (0-based) in each slot by the numbers of recorded ones, `(N, R)`."""
    return np.maximum(np.arange(slots) - (slots - counts[:, None]), 0)


def average_repetitions(outputs: Tensor, weights: Tensor) -> Tensor:
    """Average the outputs `(n, R, ...)` for the responses of each image by weights `(n, R)`, to `(n, ...)`.

    MindEye2 averages outputs (spec section 1.5), MindEye1 voxels (spec section 8); for an affine model both are equal.
    """
    return torch.einsum("nr,nr...->n...", weights.to(outputs), outputs)


def first_repetitions(num_repetitions: Tensor, count: int, slots: int) -> Tensor:
    """Return weights `(n, R)` float32 that average the first `count` (1 to R = `slots`) responses in time.

    Images with fewer recorded responses, by `num_repetitions` `(n,)`, use all of them.
    """
    recorded = torch.from_numpy(_recorded(num_repetitions.numpy(), slots))
    duplicated = (recorded == 0) & (torch.arange(slots) > 0)
    used = ~duplicated & (recorded < count)
    return used.float() / used.sum(1, keepdim=True)
