"""Assignment of an image's repetitions to a fixed number of slots.

Legend: n trials, N distinct images among them, R slots.
"""

from collections.abc import Callable

import numpy as np


def assign_image_slots(stimulus_ids: np.ndarray, filling: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the trials in the slots of each image, `(N, R)` int64 trial indices, images ascending.

    Args:
        stimulus_ids: `(n,)` of the trials in temporal order.
        filling: maps the numbers of repetitions, `(N,)`, to the repetition (0-based) in each slot, `(N, R)`.
    """
    order = np.argsort(stimulus_ids, kind="stable")
    _, first, counts = np.unique(stimulus_ids[order], return_index=True, return_counts=True)
    return order[first[:, None] + filling(counts)]


def cyclic_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return image slots as `assign_image_slots`, filled cyclically: a, a, a from one repetition, a, b, a from two.

    Of an image with more repetitions than slots, the first are used.
    """
    return assign_image_slots(stimulus_ids, lambda counts: np.arange(num_slots) % counts[:, None])


def assign_trial_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return the slots of each trial's image, `(n, R)` int64 trial indices, filled as `cyclic_slots`."""
    _, image = np.unique(stimulus_ids, return_inverse=True)
    return cyclic_slots(stimulus_ids, num_slots)[image]
