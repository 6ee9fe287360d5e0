"""One response from the repetitions of an image: how MindEye1's low-level model is trained (spec section 7.3).

Legend: B batch, R repetitions, V voxels.
"""

import torch
from torch import Tensor

#: How often a batch takes random convex combinations, the mean, and one repetition of each image.
SHARES = (0.5, 0.3, 0.2)


def mix_repetitions(repetitions: Tensor) -> Tensor:
    """Draws, with PyTorch's global generator, how the batch uses its repetitions, and does it.

    In half of the batches each sample is a convex combination with uniform weights, in 3 of 10 the mean, and in 2 of 10
    one repetition.

    Args:
        repetitions: `(B, R, V)`.

    Returns:
        `(B, V)`.
    """
    count, slots = repetitions.shape[:2]
    lot = torch.rand(()).item()
    if lot < SHARES[0]:
        weights = torch.rand(count, slots)
        weights = weights / weights.sum(1, keepdim=True)
    elif lot < SHARES[0] + SHARES[1]:
        weights = torch.full((count, slots), 1 / slots)
    else:
        weights = torch.nn.functional.one_hot(torch.randint(slots, (count,)), slots).float()
    return torch.einsum("br,brv->bv", weights.to(repetitions), repetitions)
