"""What scores look like when there is nothing to find.

Legend: N pairs of brain and image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.metrics.identification import TIE
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.metrics.statistics.checks import check_embeddings
from mindeye_pl.metrics.statistics.score import Score


def shuffled_accuracies(similarity: Tensor, *, num_shuffles: int = 1000, top_k: int = 1, seed: int = 0) -> Tensor:
    """Retrieval accuracy when images are given to brains by lot.

    Args:
        similarity: `(N, N)`, queries by gallery, from `cosine_similarity`.
        num_shuffles: lots drawn.
        top_k: as in `retrieval_accuracy`.
        seed: of the lots.

    Returns:
        `(num_shuffles,)` float64.
    """
    generator = torch.Generator().manual_seed(seed)
    lots = torch.stack([torch.randperm(len(similarity), generator=generator) for _ in range(num_shuffles)])
    hits = _hits_of_all(similarity, top_k).cpu()  # (N, N)
    return hits[torch.arange(len(hits)), lots].mean(1)


def _hits_of_all(similarity: Tensor, top_k: int) -> Tensor:
    """What `hit_rates` would give query i if item j were its own, `(N, N)` float64: sorted once for all lots."""
    similarity = similarity.contiguous()  # it may be the transposed one
    ordered = similarity.sort(dim=1).values.contiguous()
    not_above = torch.searchsorted(ordered, similarity + TIE, right=True)  # items no more similar than j
    below = torch.searchsorted(ordered, similarity - TIE)
    better = similarity.shape[1] - not_above
    return ((top_k - better).double() / (not_above - below)).clamp(0, 1)


def shuffled_scores(
    *, brain: Tensor, clip: Tensor, num_shuffles: int = 1000, top_k: Sequence[int] = (1,), seed: int = 0
) -> list[Score]:
    """Both directions of retrieval with shuffled brains; the interval holds 95 % of the shuffles.

    Args:
        brain: `(N, ...)` retrieval embeddings.
        clip: `(N, ...)` target tokens.
        num_shuffles: lots drawn.
        top_k: as in `retrieval.retrieval_scores`, which also says how the scores are called and in which order.
        seed: of the lots.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    check_embeddings(clip, what="target tokens")
    check_embeddings(brain, what="retrieval embeddings", like=clip)
    similarity = cosine_similarity(query=brain, gallery=clip)  # (N, N)
    num, scores = len(brain), []
    for k in top_k:
        for name, directed in (("image_retrieval", similarity), ("brain_retrieval", similarity.T)):
            null = shuffled_accuracies(directed, num_shuffles=num_shuffles, top_k=k, seed=seed)
            low, high = torch.quantile(null, torch.tensor([0.025, 0.975], dtype=null.dtype)).tolist()
            called = name if k == 1 else f"{name}_top{k}"
            scores.append(Score(called, float(null.mean()), min(1.0, k / num), num, num, (low, high)))
    return scores


def p_value(observed: float, null: Tensor) -> float:
    """Share of shuffles that score at least as well, the observation itself counted among them."""
    return (1 + int((null >= observed).sum())) / (1 + len(null))
