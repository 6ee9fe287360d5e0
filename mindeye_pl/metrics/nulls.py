"""Null distributions of retrieval scores under shuffled brains.

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
    """Return retrieval accuracies under random assignments of images to brains.

    Shape: similarities `(N, N)`, queries by gallery -> `(num_shuffles,)` float64.
    """
    generator = torch.Generator().manual_seed(seed)
    permutations = torch.stack([torch.randperm(len(similarity), generator=generator) for _ in range(num_shuffles)])
    hits = _hits_by_item(similarity, top_k).cpu()  # (N, N)
    return hits[torch.arange(len(hits)), permutations].mean(1)


def _hits_by_item(similarity: Tensor, top_k: int) -> Tensor:
    """Return the `hit_rates` of query i if item j were its own, `(N, N)` float64; rows are sorted only once."""
    similarity = similarity.contiguous()  # the input may be a transposed view
    ordered = similarity.sort(dim=1).values.contiguous()
    not_above = torch.searchsorted(ordered, similarity + TIE, right=True)  # items at most as similar as j
    below = torch.searchsorted(ordered, similarity - TIE)
    better = similarity.shape[1] - not_above
    return ((top_k - better).double() / (not_above - below)).clamp(0, 1)


def shuffled_scores(
    *, brain: Tensor, clip: Tensor, num_shuffles: int = 1000, top_k: Sequence[int] = (1,), seed: int = 0
) -> list[Score]:
    """Return retrieval scores with shuffled brains in both directions; intervals hold 95 % of the shuffles.

    Arguments, names and order of the scores as of `retrieval.retrieval_scores`.

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
            score_name = name if k == 1 else f"{name}_top{k}"
            scores.append(Score(score_name, float(null.mean()), min(1.0, k / num), num, num, (low, high)))
    return scores
