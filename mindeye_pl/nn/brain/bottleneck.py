"""A bottleneck for aligned vectors: projection to their first principal directions.

Legend: B batch, N vectors, h hidden width, r rank, k dimensions that are kept.
"""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Orthogonal projection of vectors around a mean; it has no weights that learn and none in the state dict.

    Args:
        mean: `(h,)`, which is kept.
        directions: `(k, h)` orthonormal; with k = 0 every vector becomes the mean.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Tensor, directions: Tensor):
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("directions", directions, persistent=False)

    def forward(self, aligned: Tensor) -> Tensor:
        """Project aligned vectors. Shape: `(B, h)` -> `(B, h)`."""
        return self.mean + (aligned - self.mean) @ self.directions.T @ self.directions


def principal_directions(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean `(h,)`, principal directions `(r, h)`, and the variances `(r,)` along them, the largest first.

    r is the rank of the centred vectors `(N, h)` at their own precision, whatever the precision of the computation,
    which is float64; the results are float32.
    """
    centred = vectors.double()
    mean = centred.mean(0)
    _, scales, directions = torch.linalg.svd(centred - mean, full_matrices=False)
    tolerance = max(vectors.shape) * torch.finfo(vectors.dtype).eps
    rank = int((scales > tolerance * scales.max()).sum()) if scales.max() > 0 else 0
    variances = scales[:rank].square() / len(vectors)
    return mean.float(), directions[:rank].float().contiguous(), variances.float()
