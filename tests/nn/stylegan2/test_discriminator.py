"""The discriminator: heads, projection, minibatch deviation, precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.stylegan2.conditions import with_second_condition
from mindeye_pl.nn.stylegan2.discriminator import Discriminator, minibatch_deviation, project


def small(image_size: int = 16, **options: object) -> Discriminator:
    torch.manual_seed(0)
    sizes = {"image_dim": 5, "caption_dim": 5, "channel_base": 128, "channel_max": 12}
    return Discriminator(image_size, **(sizes | options))


def draw(count: int = 4, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 3, size, size), torch.randn(count, 5), torch.randn(count, 5)


@pytest.mark.parametrize(("condition", "count"), [("both", 29_389_441), ("caption", 29_126_785)])
def test_published_size_on_the_meta_device(condition: str, count: int) -> None:
    with torch.device("meta"):
        discriminator = Discriminator(condition=condition)
    assert sum(weight.numel() for weight in discriminator.parameters()) == count


@pytest.mark.parametrize("reduction", ["batch_sum", "per_sample"])
def test_logits_are_realness_and_half_of_each_match(reduction: str) -> None:
    discriminator, (images, image, caption) = small(projection_reduction=reduction), draw()
    logits, (seen_image, seen_caption) = discriminator(images, image, caption)
    unmatched = discriminator(images, torch.zeros_like(image), torch.zeros_like(caption)).logits
    match = 0.5 * np.einsum("be,be->b", seen_image.detach(), image)
    match = match + 0.5 * np.einsum("be,be->b", seen_caption.detach(), caption)
    added = np.full(4, match.sum()) if reduction == "batch_sum" else match
    np.testing.assert_allclose((logits - unmatched).detach(), added, rtol=1e-4, atol=1e-5)


def test_a_wrong_embedding_lowers_only_its_own_logit_per_sample() -> None:
    semantics = [torch.eye(3)]
    right, wrong = torch.eye(3), torch.eye(3)[[0, 2, 1]]
    assert project(semantics, [right], reduction="per_sample").tolist() == [1, 1, 1]
    assert project(semantics, [wrong], reduction="per_sample").tolist() == [1, 0, 0]
    assert project(semantics, [right]).item() == 3
    assert project(semantics, [wrong]).item() == 1


@pytest.mark.parametrize("reduction", ["batch_sum", "per_sample"])
def test_two_equal_heads_are_one(reduction: str) -> None:
    one = small(condition="caption", projection_reduction=reduction)
    two = small(projection_reduction=reduction)
    two.load_state_dict(with_second_condition(one.state_dict()))
    images, _, caption = draw()
    alone, (first, second) = one(images, None, caption), two(images, caption, caption).semantics
    torch.testing.assert_close(two(images, caption, caption).logits, alone.logits)
    assert torch.equal(first, second)
    assert torch.equal(first, alone.semantics[0])


def test_minibatch_deviation_by_hand() -> None:
    features = torch.randn(8, 3, 4, 4)
    seen = minibatch_deviation(features)
    for start in (0, 1):
        group = features[start::2].numpy()  # four samples, every second one
        wanted = np.sqrt(group.var(0) + 1e-8).mean()
        np.testing.assert_allclose(seen[start::2], np.full((4, 1, 4, 4), wanted), rtol=1e-5)


@pytest.mark.parametrize(("batch", "groups"), [(1, 1), (4, 1), (6, 2), (5, 5), (16, 4)])
def test_any_batch_can_be_split(batch: int, groups: int) -> None:
    deviations = minibatch_deviation(torch.randn(batch, 2, 4, 4))
    assert deviations.shape == (batch, 1, 4, 4)
    size = batch // groups
    assert len(deviations[:, 0, 0, 0].unique()) == (groups if size > 1 else 1)


def test_samples_of_other_groups_do_not_count() -> None:
    discriminator, (images, image, caption) = small(projection_reduction="per_sample"), draw(8)
    logits = discriminator(images, image, caption).logits
    images[1::2] += 1
    changed = discriminator(images, image, caption).logits
    torch.testing.assert_close(changed[::2], logits[::2])
    assert (changed[1::2] - logits[1::2]).abs().min() > 1e-4


@pytest.mark.parametrize("size", [16, 64])
def test_every_weight_learns(size: int) -> None:
    discriminator = small(size)
    discriminator(*draw(4, size)).logits.sum().backward()
    silent = [n for n, weight in discriminator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_half_precision() -> None:
    given = draw(4, 32)
    exact = small(32)(*given)
    for mixed_resolutions, tolerance in ((0, 1e-5), (4, 0.1)):
        discriminator = small(32, mixed_resolutions=mixed_resolutions)
        images = given[0].clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            judgement = discriminator(images, *given[1:])
        assert judgement.logits.dtype == torch.float32
        assert all(semantics.dtype == torch.float32 for semantics in judgement.semantics)
        scale = exact.logits.abs().max()
        assert ((judgement.logits - exact.logits).abs().max() / scale < tolerance).item()
        (slope,) = torch.autograd.grad(judgement.logits.sum(), images, create_graph=True)
        slope.square().sum().backward()
        assert discriminator.from_rgb.weight.grad.isfinite().all()
