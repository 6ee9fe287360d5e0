import torch

from tests.models import tiny


def test_several_samples_with_separate_draws_are_averaged() -> None:
    torch.manual_seed(0)
    prior = tiny.prior(sample_steps=3).eval()
    tokens, draws = torch.randn(2, 4, 16), torch.randn(12, 2, 4, 16)
    used = 2  # two calls of the network: the start, and fresh noise between them
    alone = [prior.sample(tokens, noise=draws[used * i : used * (i + 1)]) for i in range(3)]
    assert not torch.allclose(alone[0], alone[1])
    torch.testing.assert_close(prior.sample(tokens, noise=iter(draws), samples=3), torch.stack(alone).mean(0))
    torch.testing.assert_close(prior.sample(tokens, noise=draws, samples=1), alone[0])
