"""What scores look like when there is nothing to find.

Legend: N pairs of brain and picture.
"""

import torch
from torch import Tensor

from mindeye_pl.metrics.retrieval import cosine_similarity, hit_rates
from mindeye_pl.metrics.score import Score


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


def shuffled_scores(*, brain: Tensor, clip: Tensor, num_shuffles: int = 1000, seed: int = 0) -> list[Score]:
    """Both directions of retrieval with shuffled brains; the interval holds 95 % of the shuffles.

    Args:
        brain: `(N, ...)` retrieval embeddings.
        clip: `(N, ...)` target tokens.
        num_shuffles: lots drawn.
        seed: of the lots.
    """
    similarity = cosine_similarity(query=brain, gallery=clip)  # (N, N)
    scores = []
    for name, directed in (("image_retrieval", similarity), ("brain_retrieval", similarity.T)):
        null = shuffled_accuracies(directed, num_shuffles=num_shuffles, seed=seed)
        low, high = torch.quantile(null, torch.tensor([0.025, 0.975], dtype=null.dtype)).tolist()
        scores.append(Score(name, float(null.mean()), 1 / len(brain), len(brain), len(brain), (low, high)))
    return scores


def p_value(observed: float, null: Tensor) -> float:
    """Share of shuffles that score at least as well, the observation itself counted among them."""
    return (1 + int((null >= observed).sum())) / (1 + len(null))
