"""Finding a brain's picture, and a picture's brain (MindEye2, spec sections 6.8 and 10).

`image_retrieval`: the query is a brain, the gallery pictures. `brain_retrieval`: the query is a picture, the gallery
brains. Row i of the one belongs to row i of the other; what stands after the first axis is flattened.

Legend: N pairs, F values of a flattened embedding, M pool size.
"""

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.metrics.intervals import hit_rate_interval
from mindeye_pl.metrics.score import Score

#: What the published script prints: its similarity matrix is transposed, so its "fwd" is image to brain.
PUBLISHED_LABELS = {"image_retrieval": "bwd", "brain_retrieval": "fwd"}
#: What the paper's tables mean: forward is brain to image.
CORRECTED_LABELS = {"image_retrieval": "fwd", "brain_retrieval": "bwd"}


def published_label(name: str, names: str = "published") -> str:
    """The published label of a direction, "fwd" or "bwd".

    Args:
        name: "image_retrieval" or "brain_retrieval".
        names: "published" for the swapped labels that the published script prints, "corrected" for the paper's meaning.
    """
    return {"published": PUBLISHED_LABELS, "corrected": CORRECTED_LABELS}[names][name]


def cosine_similarity(*, query: Tensor, gallery: Tensor, block_size: int = 16_384) -> Tensor:
    """Cosine of every query with every gallery item, `(N, F)` and `(M, F)` -> `(N, M)` float64.

    Target tokens share a large mean, so cosines crowd near 1 and half precision, TF32 included, would mix them up. The
    sum over F goes by blocks, so that only a block of the embeddings is ever held in float64.

    Args:
        query: `(N, ...)` floating point.
        gallery: `(M, ...)` of the same shape behind the first axis.
        block_size: values of an embedding taken at once.
    """
    query, gallery = query.flatten(1), gallery.flatten(1)
    assert query.shape[1] == gallery.shape[1], f"embeddings of {query.shape[1]} and {gallery.shape[1]} values"
    dots = torch.zeros(len(query), len(gallery), dtype=torch.float64, device=query.device)
    query_squares, gallery_squares = dots.new_zeros(len(query)), dots.new_zeros(len(gallery))
    for start in range(0, query.shape[1], block_size):
        q = query[:, start : start + block_size].double()
        g = gallery[:, start : start + block_size].double()
        dots += q @ g.T
        query_squares += q.square().sum(1)
        gallery_squares += g.square().sum(1)
    norms = query_squares.sqrt()[:, None] * gallery_squares.sqrt()[None, :]
    return dots / norms.clamp_min(1e-12)


def hit_rates(similarity: Tensor, top_k: int = 1) -> Tensor:
    """Whether each query's own item is among the `top_k` most similar, `(N, N)` -> `(N,)` float64.

    Ties share the hit, as if their order were drawn by lot, so embeddings that are all the same score chance and no
    more. A row with a NaN is NaN.
    """
    own = similarity.diagonal()[:, None]  # (N, 1)
    better = (similarity > own).sum(1)
    tied = (similarity == own).sum(1).clamp_min(1)  # the own item among them
    hits = ((top_k - better).double() / tied).clamp(0, 1)
    return torch.where(similarity.isnan().any(1), torch.nan, hits)


def retrieval_accuracy(*, query: Tensor, gallery: Tensor, top_k: int = 1) -> Tensor:
    """Share of queries whose own item is among the `top_k` most similar of the gallery by cosine.

    Shape:
        query `(N, ...)`, gallery `(N, ...)` -> scalar float32; chance is `top_k / N`.
    """
    assert len(query) == len(gallery), f"{len(query)} queries for {len(gallery)} items"
    return hit_rates(cosine_similarity(query=query, gallery=gallery), top_k).mean().float()


def image_retrieval(*, brain: Tensor, clip: Tensor, top_k: int = 1) -> Tensor:
    """Share of brains `(N, ...)` that find their picture among the target tokens `(N, ...)`, a scalar."""
    return retrieval_accuracy(query=brain, gallery=clip, top_k=top_k)


def brain_retrieval(*, brain: Tensor, clip: Tensor, top_k: int = 1) -> Tensor:
    """Share of pictures that find their brain among the retrieval embeddings, arguments as `image_retrieval`."""
    return retrieval_accuracy(query=clip, gallery=brain, top_k=top_k)


def draw_pools(num_pictures: int, pool_size: int = 300, num_pools: int = 30, seed: int = 42) -> np.ndarray:
    """Random pools of distinct pictures as the published evaluation draws them, `(num_pools, M)` int64.

    M is `pool_size`, or `num_pictures` where there are fewer.
    """
    rng = np.random.RandomState(seed)  # the generator behind the published np.random.choice
    size = min(pool_size, num_pictures)
    return np.stack([rng.choice(num_pictures, size=size, replace=False) for _ in range(num_pools)])


def retrieval_scores(
    *,
    brain: Tensor,
    clip: Tensor,
    pool_size: int = 300,
    num_pools: int = 30,
    num_resamples: int = 2000,
    seed: int = 42,
) -> list[Score]:
    """Top-1 retrieval in both directions, as the mean over random pools and among all pictures.

    Intervals are bootstrapped over the pictures that ask; the galleries are taken as given.

    Args:
        brain: `(N, ...)` retrieval embeddings.
        clip: `(N, ...)` target tokens.
        pool_size: pictures of a pool; all of them where there are fewer.
        num_pools: pools drawn.
        num_resamples: of the bootstrap.
        seed: of pools and bootstrap.

    Returns:
        `image_retrieval`, `brain_retrieval`, `image_retrieval_full`, `brain_retrieval_full`.
    """
    similarity = cosine_similarity(query=brain, gallery=clip).cpu()  # (N, N), once for all pools
    pools = draw_pools(len(similarity), pool_size, num_pools, seed)
    everything = np.arange(len(similarity))[None]
    return [
        _pooled_score(name + suffix, directed, chosen, num_resamples, seed)
        for suffix, chosen in (("", pools), ("_full", everything))
        for name, directed in (("image_retrieval", similarity), ("brain_retrieval", similarity.T))
    ]


def _pooled_score(name: str, similarity: Tensor, pools: np.ndarray, num_resamples: int, seed: int) -> Score:
    """Mean hit rate over pools of queries and their items alike."""
    total, asked = np.zeros(len(similarity)), np.zeros(len(similarity))
    for pool in pools:
        total[pool] += hit_rates(similarity[pool][:, pool]).numpy()
        asked[pool] += 1
    hits = total / np.maximum(asked, 1)  # (N,), mean over the pools that a picture was in
    return Score(
        name=name,
        value=float(total.sum() / asked.sum()),
        chance=1 / pools.shape[1],
        pool_size=pools.shape[1],
        num_pictures=int((asked > 0).sum()),
        interval=hit_rate_interval(hits, weights=asked, num_resamples=num_resamples, seed=seed),
    )
