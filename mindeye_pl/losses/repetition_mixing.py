"""Combination of an image's repetitions into one response, for MindEye1's low-level model (spec section 7.3).

Legend: B batch, R repetitions, V voxels.
"""

import torch
from torch import Tensor

#: Probabilities that a batch uses random convex combinations, the mean, or one repetition of each image.
PROBABILITIES = (0.5, 0.3, 0.2)


def mix_repetitions(repetitions: Tensor) -> Tensor:
    """Combine repetitions in a way drawn for the whole batch by PyTorch's global generator.

    With probability 0.5 each sample is a convex combination with uniform weights, with 0.3 the mean, and with 0.2 one
    repetition. Shape: `(B, R, V)` -> `(B, V)`.
    """
    count, slots = repetitions.shape[:2]
    draw = torch.rand(()).item()
    if draw < PROBABILITIES[0]:
        weights = torch.rand(count, slots)
        weights = weights / weights.sum(1, keepdim=True)
    elif draw < PROBABILITIES[0] + PROBABILITIES[1]:
        weights = torch.full((count, slots), 1 / slots)
    else:
        weights = torch.nn.functional.one_hot(torch.randint(slots, (count,)), slots).float()
    return torch.einsum("br,brv->bv", weights.to(repetitions), repetitions)
