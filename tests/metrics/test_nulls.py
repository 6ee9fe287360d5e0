import pytest
import torch

from mindeye_pl.metrics.retrieval import cosine_similarity, hit_rates, shuffled_accuracies, shuffled_scores


def test_shuffles_score_chance_and_true_pairs_are_significant() -> None:
    clip = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    brain = clip + 0.5 * torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    similarity = cosine_similarity(query=brain, gallery=clip)
    null = shuffled_accuracies(similarity, num_shuffles=500)
    assert null.shape == (500,)
    assert null.mean().item() == pytest.approx(1 / 50, abs=0.004)
    observed = hit_rates(similarity).mean().item()
    assert (null < observed).all()
    assert torch.equal(null, shuffled_accuracies(similarity, num_shuffles=500))
    assert shuffled_accuracies(similarity, num_shuffles=300, top_k=5).mean().item() == pytest.approx(0.1, abs=0.01)


def test_p_values_of_random_similarities_are_uniform() -> None:
    p_values = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        similarity = torch.rand(12, 12, generator=generator)
        null = shuffled_accuracies(similarity, num_shuffles=60, seed=seed)
        p_values.append((1 + int((null >= hit_rates(similarity).mean()).sum())) / 61)
    assert sum(p <= 0.1 for p in p_values) / 60 < 0.2


@pytest.mark.parametrize("top_k", [1, 3])
def test_shuffled_accuracies_equal_a_loop(top_k: int) -> None:
    similarity = torch.randint(0, 4, (15, 15), generator=torch.Generator().manual_seed(0)).double()  # many ties
    generator = torch.Generator().manual_seed(7)
    permutations = [torch.randperm(15, generator=generator) for _ in range(20)]
    expected = torch.stack([hit_rates(similarity[:, order], top_k).mean() for order in permutations])
    found = shuffled_accuracies(similarity, num_shuffles=20, top_k=top_k, seed=7)
    torch.testing.assert_close(found, expected)


def test_intervals_of_shuffled_scores_contain_chance() -> None:
    brain, clip = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(3))
    scores = shuffled_scores(brain=brain, clip=clip, num_shuffles=300, top_k=(1, 5))
    sides = ("image_retrieval", "brain_retrieval")
    assert [score.name for score in scores] == [side + suffix for suffix in ("", "_top5") for side in sides]
    for score in scores:
        assert score.interval is not None
        assert score.chance is not None
        assert score.interval[0] <= score.chance <= score.interval[1]
        assert score.value == pytest.approx(score.chance, abs=0.01)
