import pytest
import torch

from mindeye_pl.metrics.nulls import p_value, shuffled_accuracies
from mindeye_pl.metrics.retrieval import cosine_similarity, hit_rates


def test_shuffles_score_chance_and_the_truth_stands_out() -> None:
    clip = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    brain = clip + 0.5 * torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    similarity = cosine_similarity(query=brain, gallery=clip)
    null = shuffled_accuracies(similarity, num_shuffles=500)
    assert null.shape == (500,)
    assert null.mean().item() == pytest.approx(1 / 50, abs=0.004)
    observed = hit_rates(similarity).mean().item()
    assert p_value(observed, null) == 1 / 501
    assert p_value(0.0, null) == 1
    assert torch.equal(null, shuffled_accuracies(similarity, num_shuffles=500))
    assert shuffled_accuracies(similarity, num_shuffles=300, top_k=5).mean().item() == pytest.approx(0.1, abs=0.01)


def test_p_values_of_nothing_are_uniform() -> None:
    p_values = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        similarity = torch.rand(12, 12, generator=generator)
        null = shuffled_accuracies(similarity, num_shuffles=60, seed=seed)
        p_values.append(p_value(hit_rates(similarity).mean().item(), null))
    assert sum(p <= 0.1 for p in p_values) / 60 < 0.2
