"""Assignment of an image's repetitions to a fixed number of slots.

Legend: n trials, N distinct images among them, R slots.
"""

from collections.abc import Callable

import numpy as np


def assign_image_slots(stimulus_ids: np.ndarray, filling: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the trials in the slots of each image, `(N, R)` int64 trial indices, images ascending.

    Args:
        stimulus_ids: `(n,)` of the trials in temporal order.
        filling: maps the number of repetitions of each image, `(N,)`, to the repetition (0-based, in temporal order) in
            each slot, `(N, R)`.
    """
    order = np.argsort(stimulus_ids, kind="stable")
    _, first, counts = np.unique(stimulus_ids[order], return_index=True, return_counts=True)
    return order[first[:, None] + filling(counts)]


def cyclic_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return image slots as `assign_image_slots`, filled cyclically: a, a, a from one repetition, a, b, a from two.

    Args:
        stimulus_ids: `(n,)` of the trials in temporal order.
        num_slots: R; of an image with more repetitions, the first R.
    """
    return assign_image_slots(stimulus_ids, lambda counts: np.arange(num_slots) % counts[:, None])


def assign_trial_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return the slots of each trial's image, `(n, R)` int64 trial indices, filled as `cyclic_slots`."""
    _, image = np.unique(stimulus_ids, return_inverse=True)
    return cyclic_slots(stimulus_ids, num_slots)[image]
