"""The repetitions of an image put into a fixed number of slots.

Legend: n trials, N distinct images among them, R slots.
"""

from collections.abc import Callable

import numpy as np


def slots_of_images(stimulus_ids: np.ndarray, filling: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Which trials stand in the slots of each image, `(N, R)` int64 indices of trials, images ascending.

    Args:
        stimulus_ids: `(n,)` of the trials in order of time.
        filling: from the number of repetitions of each image, `(N,)`, which of them (0-based, in order of time)
            stands in each slot, `(N, R)`.
    """
    order = np.argsort(stimulus_ids, kind="stable")
    _, first, counts = np.unique(stimulus_ids[order], return_index=True, return_counts=True)
    return order[first[:, None] + filling(counts)]


def cyclic_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """As `slots_of_images`, filled cyclically: a, a, a from one repetition and a, b, a from two.

    Args:
        stimulus_ids: `(n,)` of the trials in order of time.
        num_slots: R; of an image with more repetitions, the first R.
    """
    return slots_of_images(stimulus_ids, lambda counts: np.arange(num_slots) % counts[:, None])


def slots_of_trials(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """For each trial the slots of its image, `(n, R)` int64 indices of trials, as `cyclic_slots` fills them."""
    _, image = np.unique(stimulus_ids, return_inverse=True)
    return cyclic_slots(stimulus_ids, num_slots)[image]
