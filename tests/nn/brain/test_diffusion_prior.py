import math

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.brain.diffusion_prior import CosineSchedule, DiffusionPriorModel
from mindeye_pl.nn.brain.prior_network import (
    CosineAttention,
    GainLayerNorm,
    Layout,
    PriorNetwork,
    RelativePositionBias,
    Rotary,
)
from mindeye_pl.nn.clip.embeddings import by_first_token
from tests.models.tiny import diffusion_model


@pytest.fixture
def prior() -> DiffusionPriorModel:
    torch.manual_seed(0)
    return diffusion_model(3, depth=2).eval()


def test_schedule_has_the_published_values() -> None:
    schedule = CosineSchedule(100)
    for time, value in ((0, 0.99936873), (49, 0.49384359), (94, 0.00605964), (99, 2.4286e-7)):
        assert float(schedule.alphas_cumprod[time]) == pytest.approx(value, rel=1e-4)


def test_attention_against_a_written_out_softmax() -> None:
    torch.manual_seed(1)
    attention, rotary, bias = CosineAttention(16, head_dim=8, heads=2), Rotary(8), RelativePositionBias(2)
    x = torch.randn(2, 5, 16)
    normed = attention.norm(x)
    queries = rotary(attention.to_queries(normed).view(2, 5, 2, 8).permute(0, 2, 1, 3))
    key, value = attention.to_key_value(normed).chunk(2, -1)
    key = torch.cat([attention.null_key_value[0].expand(2, 1, 8), rotary(key)], 1)
    value = torch.cat([attention.null_key_value[1].expand(2, 1, 8), value], 1)
    unit = [t / t.norm(dim=-1, keepdim=True) for t in (queries, key)]
    logits = 16 * torch.einsum("bhid,bjd->bhij", *unit) + bias(5, 6)
    attended = torch.einsum("bhij,bjd->bihd", logits.softmax(-1), value).reshape(2, 5, 16)
    wanted = attention.out_norm(attention.to_out(attended))
    torch.testing.assert_close(attention(x, rotary, bias(5, 6)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["parallel", "causal"])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_tokens_that_are_read_are_those_of_whole_layers(layout: Layout, depth: int) -> None:
    torch.manual_seed(0)
    transformer = PriorNetwork(3, 16, depth=depth, head_dim=8, heads=2, layout=layout).transformer
    x = torch.randn(2, 9, 16)
    whole, read = transformer(x, 9), transformer(x, 3)
    assert whole.shape == (2, 9, 16)
    torch.testing.assert_close(read, whole[:, -3:], rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(part.square().mean(), list(transformer.parameters())[2:]) for part in (whole[:, -3:], read)
    ]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_rotary_keeps_norms_and_depends_on_distances_only() -> None:
    rotary = Rotary(8)
    x, y = torch.randn(2, 1, 12).expand(2, 9, 12)
    torch.testing.assert_close(rotary(x).norm(dim=-1), x.norm(dim=-1))
    products = rotary(x) @ rotary(y).T
    for offset in range(-3, 4):
        diagonal = products.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert torch.equal(rotary(x)[:, 8:], x[:, 8:])
    torch.testing.assert_close(rotary(x[4:], first=4), rotary(x)[4:])


def test_relative_positions_fall_into_the_published_buckets() -> None:
    bias = RelativePositionBias(1)
    with torch.no_grad():
        bias.bias.weight.copy_(torch.arange(32.0)[:, None])
    table = bias(600, 601)[0]
    for distance in (0, 1, 15, 16, 17, 40, 127, 128, 500):
        exact = distance if distance < 16 else min(16 + int(math.log(distance / 16) / math.log(8) * 16), 31)
        assert table[distance, 0] == exact
    assert (table[0] == 0).all(), "all keys ahead share a bucket"


def test_layer_norm_against_its_formula() -> None:
    norm, x = GainLayerNorm(8), torch.randn(3, 5, 8)
    with torch.no_grad():
        norm.gain.copy_(torch.randn(8))
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(norm(x), centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.gain)


def test_layer_norm_has_a_larger_eps_in_half_precision() -> None:
    norm, x = GainLayerNorm(8), torch.full((1, 8), 0.5)
    x[0, 0] = 0.52
    wide, narrow = norm(x), norm(x.bfloat16())
    assert wide.abs().max() > 1.5 * narrow.float().abs().max()


def test_loss_is_the_squared_error_of_the_clean_tokens(prior: DiffusionPriorModel) -> None:
    clean, tokens, noise = torch.randn(3, 4, 3, 16)
    times = torch.tensor([0, 10, 50, 99])
    loss, prediction = prior.loss(clean, tokens, times=times, noise=noise, drop_probability=0.0)
    level = prior.schedule.alphas_cumprod[times][:, None, None]
    noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
    torch.testing.assert_close(prediction, prior.denoise(noisy, times, tokens))
    torch.testing.assert_close(loss, (prediction - clean).square().mean())


def test_dropped_conditions_have_no_effect(prior: DiffusionPriorModel) -> None:
    times = torch.full((2,), 30)
    first, second, noisy, other = torch.randn(4, 2, 3, 16)
    assert torch.equal(
        prior.denoise(noisy, times, first, drop_conditions=True),
        prior.denoise(other, times, second, drop_conditions=True),
    )
    assert not torch.equal(prior.denoise(noisy, times, first), prior.denoise(noisy, times, second))


@pytest.mark.parametrize(("steps", "calls", "first"), [(20, 19, 94), (100, 100, 99)])
def test_samplers_call_the_network_as_published(
    prior: DiffusionPriorModel, monkeypatch: pytest.MonkeyPatch, steps: int, calls: int, first: int
) -> None:
    seen: list[int] = []
    denoise = prior.denoise

    def spy(noisy: Tensor, times: Tensor, tokens: Tensor, *, drop_conditions: bool = False) -> Tensor:
        seen.append(int(times[0]))
        return denoise(noisy, times, tokens, drop_conditions=drop_conditions)

    monkeypatch.setattr(prior, "denoise", spy)
    tokens, noise = torch.randn(2, 3, 16), torch.randn(101, 2, 3, 16)
    once = prior.sample(tokens, steps=steps, noise=noise)
    assert len(seen) == calls
    assert seen[0] == first
    assert seen == sorted(seen, reverse=True)
    assert torch.equal(once, prior.sample(tokens, steps=steps, noise=list(noise)))


def test_guidance_of_one_is_no_guidance(prior: DiffusionPriorModel) -> None:
    tokens, noise = torch.randn(2, 3, 16), torch.randn(19, 2, 3, 16)
    plain = prior.sample(tokens, steps=20, noise=noise)
    assert not torch.allclose(plain, prior.sample(tokens, steps=20, cond_scale=1.5, noise=noise))
    torch.testing.assert_close(
        plain, prior.sample(tokens, steps=20, cond_scale=1.0 + 1e-7, noise=noise), atol=1e-3, rtol=1e-3
    )


def test_residual_condition_predicts_what_the_brain_tokens_lack() -> None:
    torch.manual_seed(0)
    residual = PriorNetwork(3, 16, depth=1, head_dim=8, heads=2, condition="residual").eval()
    published = PriorNetwork(3, 16, depth=1, head_dim=8, heads=2).eval()
    published.load_state_dict(residual.state_dict())  # the same weights
    noisy, brain = torch.randn(2, 4, 3, 16)
    times, keep = torch.randint(0, 100, (4,)), torch.ones(4, dtype=torch.bool)
    lacking = residual(noisy, times, brain, keep, keep) - brain
    torch.testing.assert_close(lacking, published(noisy + brain, times, brain, keep, keep))
    torch.nn.init.zeros_(residual.transformer.project_out.weight)
    torch.testing.assert_close(residual(noisy, times, brain, keep, keep), brain)


def test_residual_condition_ignores_dropped_brain_tokens() -> None:
    torch.manual_seed(0)
    prior = diffusion_model(3, condition="residual").eval()
    noisy, one, other = torch.randn(3, 4, 3, 16)
    times = torch.randint(0, 100, (4,))
    dropped = [prior.denoise(noisy, times, tokens, drop_conditions=True) for tokens in (one, other)]
    assert torch.equal(*dropped)


def test_scaled_targets_are_larger_in_the_diffusion_alone() -> None:
    """The same as the plain loss of targets that are sqrt(D) times as large, and the sample is brought back."""
    torch.manual_seed(0)
    plain = diffusion_model(3).eval()
    scaled = diffusion_model(3, target_scale="sqrt_width").eval()
    scaled.load_state_dict(plain.state_dict())
    clean, tokens, noise = torch.randn(3, 4, 3, 16)
    given = {"times": torch.tensor([0, 10, 50, 99]), "noise": noise, "drop_probability": 0.0}
    for seen, wanted in zip(scaled.loss(clean, tokens, **given), plain.loss(4 * clean, tokens, **given), strict=True):
        torch.testing.assert_close(seen, wanted)
    for steps in (20, 100):
        draws = torch.randn(101, 4, 3, 16)
        wanted = plain.sample(tokens, steps=steps, noise=draws) / 4
        torch.testing.assert_close(scaled.sample(tokens, steps=steps, noise=draws), wanted)


def test_renormalised_tokens_have_a_class_token_of_norm_one() -> None:
    tokens = 3 * torch.randn(4, 3, 16)
    renormalised = by_first_token(tokens)
    torch.testing.assert_close(renormalised[:, 0].norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(renormalised * tokens[:, :1].norm(dim=-1, keepdim=True), tokens)
    assert by_first_token(torch.zeros(1, 2, 4)).isfinite().all()
