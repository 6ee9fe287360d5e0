"""What scores look like when there is nothing to find.

Legend: N pairs of brain and picture.
"""

import torch
from torch import Tensor

from mindeye_pl.metrics.retrieval import hit_rates


def shuffled_accuracies(similarity: Tensor, *, num_shuffles: int = 1000, top_k: int = 1, seed: int = 0) -> Tensor:
    """Retrieval accuracy when pictures are given to brains by lot.

    Args:
        similarity: `(N, N)`, queries by gallery, from `cosine_similarity`.
        num_shuffles: lots drawn.
        top_k: as in `retrieval_accuracy`.
        seed: of the lots.

    Returns:
        `(num_shuffles,)` float64.
    """
    generator = torch.Generator().manual_seed(seed)
    lots = (torch.randperm(len(similarity), generator=generator) for _ in range(num_shuffles))
    return torch.stack([hit_rates(similarity[:, lot.to(similarity.device)], top_k).mean() for lot in lots]).cpu()


def p_value(observed: float, null: Tensor) -> float:
    """Share of shuffles that score at least as well, the observation itself counted among them."""
    return (1 + int((null >= observed).sum())) / (1 + len(null))
