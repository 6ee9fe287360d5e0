from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binom
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from mindeye_pl.metrics import retrieval
from mindeye_pl.metrics.retrieval import (
    cosine_similarity,
    draw_pools,
    hit_rates,
    nearest,
    published_label,
    ranks_of_own,
    retrieval_accuracy,
    retrieval_per_image,
    retrieval_scores,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "objective" / "objective_and_metrics.safetensors"


def image_retrieval(*, brain: torch.Tensor, clip: torch.Tensor, top_k: int = 1) -> torch.Tensor:
    return retrieval_accuracy(query=brain, gallery=clip, top_k=top_k)


def brain_retrieval(*, brain: torch.Tensor, clip: torch.Tensor, top_k: int = 1) -> torch.Tensor:
    return retrieval_accuracy(query=clip, gallery=brain, top_k=top_k)


def pairs(num: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randn(num, 4, 8, generator=generator)
    return clip + noise * torch.randn(num, 4, 8, generator=generator), clip


@pytest.mark.parametrize("top_k", [1, 5])
def test_retrieval_equals_the_published_numbers(top_k: int) -> None:
    recorded = load_file(GOLDEN)
    both = {"brain": recorded["retrieval.brain"], "clip": recorded["retrieval.clip"]}
    for name, function in (("image_retrieval", image_retrieval), ("brain_retrieval", brain_retrieval)):
        printed = recorded[f"retrieval.top{top_k}.printed_as_{published_label(name)}"]
        assert function(**both, top_k=top_k).item() == pytest.approx(printed.item(), abs=1e-6)
    if top_k == 1:
        assert image_retrieval(**both).item() == pytest.approx(recorded["retrieval.top1.image_given_brain"].item())
        assert brain_retrieval(**both).item() == pytest.approx(recorded["retrieval.top1.brain_given_image"].item())


def test_published_and_corrected_labels_are_swapped() -> None:
    assert published_label("image_retrieval") == "bwd"
    assert published_label("image_retrieval", "corrected") == "fwd"
    assert published_label("brain_retrieval", "published") == "fwd"
    assert published_label("brain_retrieval", "corrected") == "bwd"


def test_scores_are_named_by_the_query() -> None:
    """Each brain is nearest to its own image, but the first brain is nearest to every image."""
    clip = torch.eye(4)
    brain = torch.eye(4) - 3.0  # (4, 4)
    brain[0] = torch.tensor([1.0, 0.99, 0.99, 0.99])
    own = {"image_retrieval": 1.0, "brain_retrieval": 0.25}
    assert {score.name: score.value for score in retrieval_scores(brain=brain, clip=clip)[:2]} == own
    each = retrieval_per_image(brain=brain, clip=clip)
    assert {name: values.mean() for name, values in each.items()} == own


@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_cosine_similarity_equals_sklearn_for_any_block_size(block_size: int) -> None:
    query, gallery = torch.randn(5, 3, 7), torch.randn(4, 3, 7)
    result = cosine_similarity(query=query, gallery=gallery, block_size=block_size)
    np.testing.assert_allclose(
        result, sklearn_cosine(query.flatten(1).double(), gallery.flatten(1).double()), atol=1e-12
    )


def test_retrieval_is_precise_despite_a_large_common_mean() -> None:
    """Like CLIP's tokens, cosines near 1 differ in the sixth digit; the test runs under autocast."""
    brain, clip = pairs(50, 0.1)
    brain, clip = 1000 + brain, 1000 + clip
    with torch.autocast("cpu", torch.bfloat16):
        similarity = cosine_similarity(query=brain, gallery=clip)
        accuracy = image_retrieval(brain=brain, clip=clip)
    assert similarity.min() > 0.99999
    assert accuracy == 1


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_retrieval_accuracy_equals_a_loop(num: int, top_k: int, seed: int) -> None:
    brain, clip = pairs(num, 3.0, seed)
    found = 0
    for i in range(num):
        cosines = [torch.cosine_similarity(brain[i].flatten().double(), c.flatten().double(), dim=0) for c in clip]
        found += i in sorted(range(num), key=lambda j: -cosines[j])[:top_k]
    assert retrieval_accuracy(query=brain, gallery=clip, top_k=top_k).item() == pytest.approx(found / num)


@given(st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_retrieval_does_not_depend_on_order_and_length(seed: int) -> None:
    brain, clip = pairs(20, 2.0, seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    scale = 0.1 + torch.rand(20, 1, 1, generator=torch.Generator().manual_seed(seed))
    assert image_retrieval(brain=brain, clip=clip) == image_retrieval(brain=scale * brain[order], clip=clip[order])
    assert image_retrieval(brain=brain, clip=clip) == brain_retrieval(brain=clip, clip=brain)


def test_perfect_pairs_score_one_and_collapsed_pairs_chance() -> None:
    _, clip = pairs(40, 0.0)
    assert image_retrieval(brain=clip, clip=clip) == 1
    collapsed = torch.ones(40, 4, 8)
    assert image_retrieval(brain=collapsed, clip=clip).item() == pytest.approx(1 / 40)
    assert hit_rates(torch.ones(40, 40)).tolist() == pytest.approx([1 / 40] * 40)
    assert hit_rates(torch.ones(40, 40), top_k=5).mean().item() == pytest.approx(5 / 40)
    assert retrieval_accuracy(query=torch.zeros(8, 3), gallery=torch.randn(8, 3)).item() == pytest.approx(1 / 8)


def test_nan_embedding_yields_nan() -> None:
    brain, clip = pairs(6, 0.0)
    brain[2] = torch.nan
    assert retrieval_accuracy(query=brain, gallery=clip).isnan()
    assert hit_rates(cosine_similarity(query=brain, gallery=clip)).isnan().tolist() == [i == 2 for i in range(6)]


def test_shuffled_pairs_score_chance() -> None:
    num, repeats = 60, 40
    hits = 0.0
    for seed in range(repeats):
        brain, clip = pairs(num, 0.5, seed)
        order = torch.randperm(num, generator=torch.Generator().manual_seed(seed + 1000))
        hits += num * image_retrieval(brain=brain[order], clip=clip).item()
    low, high = binom.interval(0.999, num * repeats, 1 / num)
    assert low <= hits <= high


def test_pools_equal_the_published_evaluation() -> None:
    np.random.seed(42)
    expected = [np.random.choice(np.arange(50), size=10, replace=False) for _ in range(3)]
    np.testing.assert_array_equal(draw_pools(50, 10, 3), expected)
    assert draw_pools(8, 300, 2).shape == (2, 8)


def test_retrieval_scores_have_chance_pool_and_interval() -> None:
    brain, clip = pairs(80, 2.0)
    scores = {score.name: score for score in retrieval_scores(brain=brain, clip=clip, pool_size=20, num_pools=30)}
    assert list(scores) == ["image_retrieval", "brain_retrieval", "image_retrieval_full", "brain_retrieval_full"]
    for name, score in scores.items():
        assert score.pool_size == (80 if name.endswith("full") else 20)
        assert score.chance == 1 / score.pool_size
        assert score.num_images == 80
        assert score.interval is not None
        assert score.interval[0] < score.value < score.interval[1]
    assert scores["image_retrieval"].value > scores["image_retrieval_full"].value
    assert scores["image_retrieval_full"].value == pytest.approx(image_retrieval(brain=brain, clip=clip).item())
    by_hand = [image_retrieval(brain=brain[pool], clip=clip[pool]).item() for pool in draw_pools(80, 20, 30)]
    assert scores["image_retrieval"].value == pytest.approx(np.mean(by_hand))


def test_score_names_contain_top_k() -> None:
    brain, clip = pairs(40, 2.0)
    scores = retrieval_scores(brain=brain, clip=clip, pool_size=20, num_pools=5, top_k=(1, 5, 30))
    assert scores[:4] == retrieval_scores(brain=brain, clip=clip, pool_size=20, num_pools=5)
    names = [score.name for score in scores[4:]]
    assert names == [
        f"{side}_retrieval{pool}_top{k}" for k in (5, 30) for pool in ("", "_full") for side in ("image", "brain")
    ]
    named = {score.name: score for score in scores}
    assert named["brain_retrieval_full_top5"].value == pytest.approx(
        brain_retrieval(brain=brain, clip=clip, top_k=5).item()
    )
    assert named["image_retrieval_top5"].chance == 5 / 20
    assert (named["image_retrieval_top30"].value, named["image_retrieval_top30"].chance) == (1, 1)
    assert named["image_retrieval_top5"].value > named["image_retrieval"].value


def test_ranks_and_nearest_equal_sorting() -> None:
    brain, clip = pairs(30, 3.0)
    similarity = cosine_similarity(query=brain, gallery=clip)
    order = np.argsort(-similarity.numpy(), axis=1)
    expected = [int(np.flatnonzero(order[i] == i)[0]) + 1 for i in range(30)]
    assert ranks_of_own(similarity).tolist() == expected
    assert ranks_of_own(similarity).dtype == torch.int64
    np.testing.assert_array_equal(nearest(similarity, 4), order[:, :4])
    np.testing.assert_array_equal(nearest(similarity[:5], 100), order[:5])
    for k in (1, 5):
        assert hit_rates(similarity, k).tolist() == (np.array(expected) <= k).astype(float).tolist()
    assert torch.equal(nearest(torch.zeros(2, 4), 3), torch.arange(3).expand(2, 3))
    assert ranks_of_own(torch.zeros(4, 4)).tolist() == [3] * 4


@pytest.mark.parametrize("width", [3, 20_000])
def test_identical_brain_embeddings_score_chance(width: int) -> None:
    same, clip = torch.randn(1, width).expand(40, -1), torch.randn(40, width)
    for name, metric in (("image", image_retrieval), ("brain", brain_retrieval)):
        assert metric(brain=same, clip=clip, top_k=3).item() == pytest.approx(3 / 40), name


def test_pool_larger_than_the_gallery_uses_all_images() -> None:
    brain, clip = pairs(30, 1.0)
    pooled, _, full, _ = retrieval_scores(brain=brain, clip=clip)
    assert (pooled.value, pooled.pool_size) == (full.value, 30)


def test_mismatched_pairs_fail() -> None:
    with pytest.raises(AssertionError, match="3 queries for 4 items"):
        retrieval_accuracy(query=torch.ones(3, 2), gallery=torch.ones(4, 2))
    with pytest.raises(AssertionError, match="2 and 3 values"):
        retrieval.cosine_similarity(query=torch.ones(3, 2), gallery=torch.ones(3, 3))


@pytest.mark.parametrize("pool_size", [7, 20])
def test_weighted_mean_of_retrieval_per_image_is_the_score(pool_size: int) -> None:
    brain, clip = pairs(20, noise=2.0)
    settings = {"brain": brain, "clip": clip, "pool_size": pool_size, "num_pools": 50, "seed": 3}
    scores = {score.name: score.value for score in retrieval_scores(**settings)}
    asked = np.bincount(draw_pools(20, pool_size, 50, 3).ravel(), minlength=20)
    for name, each in retrieval_per_image(**settings).items():
        assert each.shape == (20,)
        assert np.average(each, weights=asked) == pytest.approx(scores[name], abs=1e-12)


def test_image_in_no_pool_has_the_mean_of_the_others() -> None:
    brain, clip = pairs(20, noise=2.0)
    each = retrieval_per_image(brain=brain, clip=clip, pool_size=5, num_pools=1, seed=0)["image_retrieval"]
    asked = draw_pools(20, 5, 1, 0)[0]
    left = np.setdiff1d(np.arange(20), asked)
    assert each[left] == pytest.approx(np.full(15, each[asked].mean()))
