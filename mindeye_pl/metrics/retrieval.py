"""Retrieval of a brain's image, and of an image's brain (MindEye2, spec sections 6.8 and 10).

`image_retrieval`: the query is a brain, the gallery is images. `brain_retrieval`: the query is an image, the gallery is
brains. Row i of one matches row i of the other; axes after the first are flattened.

Legend: N pairs or gallery images, F values of a flattened embedding, M pool size, n queries, k results per query.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import TIE, better_and_tied
from mindeye_pl.metrics.statistics.checks import check_embeddings
from mindeye_pl.metrics.statistics.intervals import hit_rate_interval
from mindeye_pl.metrics.statistics.score import Score

#: Directions as the paper's text means them ("corrected"), and as the published script prints them: its similarity
#: matrix is transposed, so that its "fwd", the "Image retrieval" of the papers' tables, is image to brain.
_LABELS = {
    "published": {"image_retrieval": "bwd", "brain_retrieval": "fwd"},
    "corrected": {"image_retrieval": "fwd", "brain_retrieval": "bwd"},
}


def published_label(name: str, names: str = "published") -> str:
    """Return the label of `image_retrieval` or `brain_retrieval`, "fwd" or "bwd"."""
    return _LABELS[names][name]


def cosine_similarity(*, query: Tensor, gallery: Tensor, block_size: int = 16_384) -> Tensor:
    """Return cosines of every query with every gallery item, `(N, F)` and `(M, F)` -> `(N, M)` float64.

    Target tokens share a large mean, so their cosines are close to 1 and half precision, TF32 included, would confuse
    them. The sum over F is computed in blocks of `block_size` values, so that only one block is held in float64.
    """
    query, gallery = query.flatten(1), gallery.flatten(1)
    assert query.shape[1] == gallery.shape[1], f"embeddings of {query.shape[1]} and {gallery.shape[1]} values"
    dots = torch.zeros(len(query), len(gallery), dtype=torch.float64, device=query.device)
    query_squares, gallery_squares = dots.new_zeros(len(query)), dots.new_zeros(len(gallery))
    for start in range(0, query.shape[1], block_size):
        q = query[:, start : start + block_size].double()
        g = gallery[:, start : start + block_size].double()
        dots += q @ g.T
        query_squares += torch.linalg.vector_norm(q, dim=1).square()
        gallery_squares += torch.linalg.vector_norm(g, dim=1).square()
    norms = query_squares.sqrt()[:, None] * gallery_squares.sqrt()[None, :]
    return dots / norms.clamp_min(1e-12)


def hit_rates(similarity: Tensor, top_k: int = 1) -> Tensor:
    """Return 1 for each query whose own item is among the `top_k` most similar, else 0, `(N, N)` -> `(N,)` float64.

    Ties count fractionally, as if broken randomly, so constant embeddings score chance. A row with NaN yields NaN.
    """
    better, tied = better_and_tied(similarity)  # the own item counts as tied
    return torch.where(similarity.isnan().any(1), torch.nan, _hits(better, tied, top_k))


def _hits(better: Tensor, tied: Tensor, top_k: int) -> Tensor:
    return ((top_k - better).double() / tied).clamp(0, 1)


def ranks_of_own(similarity: Tensor) -> Tensor:
    """Return the rank of each query's own item, 1 for the most similar, `(N, N)` -> `(N,)` int64.

    Ties take the middle rank, rounded up, so that constant embeddings do not look better than guessing.
    """
    better, tied = better_and_tied(similarity)
    return 1 + better + tied // 2


def nearest(similarity: Tensor, k: int) -> Tensor:
    """Return the `k` most similar items of each query, most similar first; ties in gallery order.

    Shape: `(N, M)`, queries by gallery -> `(N, min(k, M))` int64 gallery indices.
    """
    assert k > 0, k
    return torch.cat([rows.argsort(dim=1, descending=True, stable=True)[:, :k] for rows in similarity.split(256)])


def retrieval_accuracy(*, query: Tensor, gallery: Tensor, top_k: int = 1) -> Tensor:
    """Fraction of queries whose own item is among the `top_k` most similar of the gallery by cosine.

    Formula: mean over i of [fewer than top_k items j have cos(q_i, g_j) > cos(q_i, g_i)]; ties are broken randomly. In
        image retrieval q are the brains' retrieval embeddings and g the images' target tokens; in brain retrieval the
        images query the brains.
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / N, and top_k / 300 in the published pools
    Weights: none for this function; those of the CLIP model that computed the target tokens.
    Not shown: the reconstruction: the score depends on the brain's embedding alone, before any image is generated. Test
        images differ strongly from each other, so that the kind of scene alone often identifies the image. A few
        embeddings that are near every image (hubs) lower brain retrieval while each brain still retrieves its own
        image, so read both.
    Source: MindEye2, spec sections 6.8 and 10; the published script prints image retrieval as "bwd", the papers' "Brain
        retrieval", and brain retrieval as "fwd", the papers' "Image retrieval".

    Inputs are not checked, so that training can log it: NaN in an embedding yields NaN.

    Shape: `(N, ...)`, `(N, ...)`, row i of one matches row i of the other -> scalar float32.
    """
    assert len(query) == len(gallery), f"{len(query)} queries for {len(gallery)} items"
    return hit_rates(cosine_similarity(query=query, gallery=gallery), top_k).mean().float()


def draw_pools(num_images: int, pool_size: int = 300, num_pools: int = 30, seed: int = 42) -> np.ndarray:
    """Draw random pools of `pool_size` distinct images, or all, as the published evaluation does: `(num_pools, M)`."""
    rng = np.random.RandomState(seed)  # the generator behind the published np.random.choice
    size = min(pool_size, num_images)
    return np.stack([rng.choice(num_images, size=size, replace=False) for _ in range(num_pools)])


def retrieval_scores(
    *,
    brain: Tensor,
    clip: Tensor,
    pool_size: int = 300,
    num_pools: int = 30,
    top_k: Sequence[int] = (1,),
    seed: int = 42,
) -> list[Score]:
    """Return retrieval scores in both directions, as the mean over random pools and among all images.

    `brain` are retrieval embeddings `(N, ...)`, `clip` target tokens `(N, ...)` in the same order. Intervals are over
    the queries, for a fixed gallery. The scores are, for the first of `top_k`, `image_retrieval`, `brain_retrieval`,
    `image_retrieval_full`, `brain_retrieval_full`; then the same for each other k. For k > 1 the names end in it:
    `image_retrieval_top5`, `image_retrieval_full_top5`.

    Raises:
        UserError: as `checks.check_embeddings`, and for a `top_k` that is not positive.
    """
    pools = {"pool_size": pool_size, "num_pools": num_pools, "seed": seed}
    return mean_retrieval_scores([retrieval_hits(brain=brain, clip=clip, top_k=top_k, **pools)])


@dataclass(frozen=True)
class QueryHits:
    """Hits of every query in some pools.

    Attributes:
        name: of the direction and the pools, for example `image_retrieval_full`.
        top_k: ranks that count as found.
        size: M.
        total: `(k, N)` float64, hits of each query summed over the pools, by rank.
        asked: `(N,)` pools that have the query.
    """

    name: str
    top_k: tuple[int, ...]
    size: int
    total: np.ndarray
    asked: np.ndarray


def retrieval_hits(
    *,
    brain: Tensor,
    clip: Tensor,
    pool_size: int = 300,
    num_pools: int = 30,
    top_k: Sequence[int] = (1,),
    seed: int = 42,
) -> list[QueryHits]:
    """Return the hits that `retrieval_scores` averages; arguments and errors as of that function."""
    if not top_k or min(top_k) < 1:
        raise UserError("top_k of retrieval is not positive", got=list(top_k), expected="integers of at least 1")
    check_embeddings(clip, what="target tokens")
    check_embeddings(brain, what="retrieval embeddings", like=clip)
    similarity = cosine_similarity(query=brain, gallery=clip).cpu()  # (N, N), once for all pools
    pools = draw_pools(len(similarity), pool_size, num_pools, seed)
    everything = np.arange(len(similarity))[None]
    return [
        QueryHits(name + suffix, tuple(top_k), chosen.shape[1], *_pooled_hits(directed, chosen, top_k))
        for suffix, chosen in (("", pools), ("_full", everything))
        for name, directed in (("image_retrieval", similarity), ("brain_retrieval", similarity.T))
    ]


def mean_retrieval_scores(draws: Sequence[Sequence[QueryHits]]) -> list[Score]:
    """Return the scores of several predictions of the same images in the same pools, each score a mean over them.

    A query's hits are averaged over the predictions first, so that the interval is over the images alone. Names and
    order of the scores as of `retrieval_scores`.
    """
    by_set = []
    for of_set in zip(*draws, strict=True):
        one, scores = of_set[0], []
        for index, k in enumerate(one.top_k):
            hits = np.mean([each.total[index] for each in of_set], 0)
            interval = hit_rate_interval(hits / np.maximum(one.asked, 1), weights=one.asked)
            value, queried = float(hits.sum() / one.asked.sum()), int((one.asked > 0).sum())
            scores.append(Score(_at(one.name, k), value, min(1.0, k / one.size), one.size, queried, interval))
        by_set.append(scores)
    return [scores[index] for index in range(len(by_set[0])) for scores in by_set]


def retrieval_per_image(
    *, brain: Tensor, clip: Tensor, pool_size: int = 300, num_pools: int = 30, seed: int = 42
) -> dict[str, np.ndarray]:
    """Return each image's contribution to `image_retrieval` and `brain_retrieval`, for paired tests of models.

    It is `(N,)` float64 in [0, 1] for each direction: the fraction of its pools in which the image is found; images in
    no pool have the mean of the others. Arguments as of `retrieval_scores`.
    """
    similarity = cosine_similarity(query=brain, gallery=clip).cpu()
    pools = draw_pools(len(similarity), pool_size, num_pools, seed)
    directed = {"image_retrieval": similarity, "brain_retrieval": similarity.T}
    found = {}
    for name, matrix in directed.items():
        (total,), asked = _pooled_hits(matrix, pools, (1,))
        found[name] = np.where(asked > 0, total / np.maximum(asked, 1), total.sum() / asked.sum())
    return found


def _pooled_hits(similarity: Tensor, pools: np.ndarray, top_k: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return each query's hits summed over pools, `(k, N)`, and its number of pools, `(N,)`."""
    total = np.zeros((len(top_k), len(similarity)))
    for pool in pools:
        better, tied = better_and_tied(similarity[pool][:, pool])
        for hits, k in zip(total, top_k, strict=True):
            hits[pool] += _hits(better, tied, k).numpy()
    return total, np.bincount(pools.ravel(), minlength=len(similarity))


def _at(name: str, k: int) -> str:
    return name if k == 1 else f"{name}_top{k}"


def shuffled_accuracies(similarity: Tensor, *, num_shuffles: int = 1000, top_k: int = 1, seed: int = 0) -> Tensor:
    """Return retrieval accuracies under random assignments, `(N, N)`, queries by gallery -> `(num_shuffles,)`."""
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
    return _hits(similarity.shape[1] - not_above, not_above - below, top_k)


def shuffled_scores(
    *, brain: Tensor, clip: Tensor, num_shuffles: int = 1000, top_k: Sequence[int] = (1,), seed: int = 0
) -> list[Score]:
    """Return retrieval scores with shuffled brains in both directions; intervals hold 95 % of the shuffles.

    Arguments, names and order of the scores as of `retrieval_scores`.

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
            scores.append(Score(_at(name, k), float(null.mean()), min(1.0, k / num), num, num, (low, high)))
    return scores


def gallery_recall_per_image(indices: np.ndarray, truth: np.ndarray, top_k: int = 1) -> np.ndarray:
    """Fraction of queries whose own image is among the first `top_k` results.

    Formula: mean over i of [truth_i is one of indices_i1, ..., indices_i top_k]
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / N
    Weights: none for this function; those of the CLIP model that embedded the gallery.
    Not shown: how similar the other results are. A gallery may contain an image twice, and an approximate index may
        miss the nearest one: the row of the image's own embedding shows how much the index alone loses.
    Source: MindEye1, spec section 9.2 (the search), section 9.1 (the score).

    Shape: indices of the results `(n, k)`, best first, -1 for missing results, and of the queries' own images `(n,)` ->
        `(n,)` float64, 1 for each query that finds its image, else 0.
    """
    assert indices.shape[:1] == truth.shape, f"results {indices.shape} for truth {truth.shape}"
    return (indices[:, :top_k] == truth[:, None]).any(1).astype(float)


def gallery_recall_scores(
    indices: np.ndarray, truth: np.ndarray, *, pool_size: int, top_k: Sequence[int] = (1, 5, 10)
) -> list[Score]:
    """Return recall at several k, named for example `gallery_recall_5`, with Wilson's intervals over the queries.

    Raises:
        UserError: if a k is not positive, or exceeds the number of results.
    """
    if not top_k or min(top_k) < 1 or max(top_k) > indices.shape[1]:
        raise UserError("top_k of gallery recall is out of range", got=list(top_k), expected=f"1 to {indices.shape[1]}")
    scores = []
    for k in top_k:
        hits = gallery_recall_per_image(indices, truth, k)
        chance, interval = min(1.0, k / pool_size), hit_rate_interval(hits)
        scores.append(Score(f"gallery_recall_{k}", float(hits.mean()), chance, pool_size, len(hits), interval))
    return scores
