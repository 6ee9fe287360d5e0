"""The images that a model is scored on, three responses to each (MindEye2, spec section 1.5).

They are the shared1000, or what a split leaves out.

Only `evaluate` reads this; training and validation never do.

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
from mindeye_pl.data.nsd.repetitions import slots_of_images
from mindeye_pl.data.nsd.splits import LeftOut
from mindeye_pl.data.nsd.trials import Trials, load_test_trials
from mindeye_pl.errors import UserError


@dataclass
class TestSet:
    """Test images and the responses to them.

    A model reads each of the three responses by itself, and `average_repetitions` makes one answer of the outputs.

    Attributes:
        voxels: `(N, R, V)` float32; where an image has fewer repetitions, some of them stand more than once.
        stimulus_ids: `(N,)` int64, ascending.
        weights: `(N, R)` float32, share of each response in an image's answer; rows sum to 1.
        num_repetitions: `(N,)` int64, responses that were recorded, 1 to 3.
    """

    voxels: Tensor
    stimulus_ids: Tensor
    weights: Tensor
    num_repetitions: Tensor


def load_test_set(
    layout: NSDLayout,
    subject: int,
    *,
    normalisation: BetaNormalisation,
    cache_dir: Path,
    split: str = "new_test",
    repetitions: str = "published",
    left_out: LeftOut | None = None,
) -> TestSet:
    """Reads the test images of a subject and its responses in all sessions.

    Args:
        layout: the data.
        subject: 1 to 8.
        normalisation: fitted on the training trials of the sessions that the model was trained on.
        cache_dir: where the indices of shards are kept.
        split: "new_test", or "test" for the older split without the last three sessions.
        repetitions: "published" averages three outputs always, the first response counting twice where there are two
            (a, a, b, as the published inference script orders them; its training script's a, b, a has the same mean);
            "corrected" averages the repetitions that exist, each with the same weight.
        left_out: the images that are tested in place of all shared1000.

    Raises:
        UserError: if a file is missing or damaged, there is no trial, none of what is left out, or an image has more
            than three repetitions.
    """
    trials = load_tested_trials(layout, subject, split, cache_dir, left_out)
    shard = layout.shard(subject, split)
    stimulus_ids, counts = np.unique(trials.stimulus_ids, return_counts=True)
    if counts.max() > nsd.REPETITIONS:
        raise UserError(f"{shard} shows an image too often", got=counts.max(), expected=f"1 to {nsd.REPETITIONS} times")
    rows = fill_repetitions(trials.stimulus_ids)  # (N, R)
    betas = normalisation(read_betas(layout, subject, trials.beta_rows))  # (n, V)
    return TestSet(
        voxels=torch.from_numpy(betas[rows]),
        stimulus_ids=torch.from_numpy(stimulus_ids),
        weights=torch.from_numpy(REPETITION_WEIGHTS[repetitions][counts]),
        num_repetitions=torch.from_numpy(counts.astype(np.int64)),
    )


def load_tested_trials(
    layout: NSDLayout, subject: int, split: str, cache_dir: Path, left_out: LeftOut | None
) -> Trials:
    """The trials that are scored, in order of time. See `load_test_set`."""
    if left_out is None:
        trials = load_test_trials(layout, subject, split, cache_dir)
    else:
        trials = left_out.test_trials(layout, subject, split, cache_dir)
    if len(trials) == 0:
        raise UserError(f"{layout.shard(subject, split)} holds no trial to score", fix="another data.test_split")
    return trials


#: Weights of the three responses by the number recorded (rows 1 to 3), for each value of `data.repetitions`.
REPETITION_WEIGHTS = {
    "published": np.full((4, 3), 1 / 3, np.float32),
    "corrected": np.array([[0, 0, 0], [1, 0, 0], [1 / 2, 0, 1 / 2], [1 / 3, 1 / 3, 1 / 3]], np.float32),
}


def fill_repetitions(stimulus_ids: np.ndarray) -> np.ndarray:
    """Three trials for each image, filled by a, a, a from one repetition and by a, a, b from two.

    Args:
        stimulus_ids: `(n,)` of the trials in order of time, each image one to three times.

    Returns:
        `(N, R)` indices of trials, images ascending.
    """
    # Repetition (0-based) that stands in each of the three places, by the number recorded.
    filling = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 2]])
    return slots_of_images(stimulus_ids, lambda counts: filling[counts])


def average_repetitions(outputs: Tensor, weights: Tensor) -> Tensor:
    """One answer for each image, `(n, ...)` from the model's outputs for its responses.

    Outputs are averaged, not voxels (MindEye2, spec section 1.5); for an affine model it is the same.

    Args:
        outputs: `(n, R, ...)`.
        weights: `(n, R)`, of the same images.
    """
    return torch.einsum("nr,nr...->n...", weights.to(outputs), outputs)


def first_repetitions(num_repetitions: Tensor, count: int) -> Tensor:
    """Weights `(n, R)` float32 that average the first `count` responses in time, each with the same share.

    An image with fewer responses is answered by those that it has.

    Args:
        num_repetitions: `(n,)`, responses recorded of each image.
        count: 1 to R.
    """
    # Which response in time stands in each place (`fill_repetitions`), by the number recorded; 0 where one is repeated.
    places = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 2], [1, 2, 3]])[num_repetitions]  # (n, R)
    used = (places > 0) & (places <= count)
    return used.float() / used.sum(1, keepdim=True)
