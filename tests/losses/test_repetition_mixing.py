"""MindEye1's three ways to combine the repetitions of an image."""

import torch

from mindeye_pl.losses.repetition_mixing import PROBABILITIES, mix_repetitions

B, R, V = 5, 3, 4
REPETITIONS = torch.eye(R).repeat(B, 1, 1)[..., :R]  # voxel r is 1 only in repetition r, so the mix equals the weights


def weights(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return mix_repetitions(REPETITIONS)


def kind(drawn: torch.Tensor) -> str:
    if torch.allclose(drawn, torch.full_like(drawn, 1 / R)):
        return "mean"
    return "one" if set(drawn.unique().tolist()) == {0.0, 1.0} else "combination"


def test_every_sample_is_a_convex_combination_of_its_own_repetitions() -> None:
    for seed in range(20):
        drawn = weights(seed)
        assert (drawn >= 0).all()
        torch.testing.assert_close(drawn.sum(1), torch.ones(B))


def test_repetition_mixing_uses_the_published_probabilities() -> None:
    kinds = [kind(weights(seed)) for seed in range(1000)]
    for name, probability in zip(("combination", "mean", "one"), PROBABILITIES, strict=True):
        assert abs(kinds.count(name) / len(kinds) - probability) < 0.05, name  # three standard deviations


def test_convex_weights_differ_between_samples() -> None:
    drawn = next(w for w in map(weights, range(50)) if kind(w) == "combination")
    assert len({tuple(row) for row in drawn.tolist()}) == B


def test_mixing_equal_repetitions_changes_nothing() -> None:
    voxels = torch.randn(B, 1, V).expand(B, R, V)
    for seed in range(10):
        torch.manual_seed(seed)
        torch.testing.assert_close(mix_repetitions(voxels), voxels[:, 0])
