"""The low-level branch's loss."""

import torch
import torch.nn.functional as F

from mindeye_pl.models.parts.low_level import LowLevel
from tests.models.tiny import low_level


def branch(**options: float) -> LowLevel:
    torch.manual_seed(0)
    return low_level(**options).eval()  # type: ignore[arg-type, return-value]


def test_sizes_follow_the_latents() -> None:
    latents, maps = branch()(torch.randn(2, 12))
    assert latents.shape == (2, 4, 16, 16)
    assert maps.shape == (2, 16, 512)


def test_l1_of_the_latents() -> None:
    model, hidden, latents = branch(), torch.randn(3, 12), torch.randn(3, 4, 16, 16)
    loss = model.compute_loss(hidden, latents.flatten(2), scale=0.5)
    torch.testing.assert_close(loss.total, 0.5 * F.l1_loss(model(hidden)[0], latents))
    assert list(loss.parts) == ["low_level"]


def test_maps_against_a_second_implementation() -> None:
    model, hidden, latents = branch(contrastive_scale=0.1), torch.randn(2, 12), torch.randn(2, 4, 16, 16)
    teacher, augmented = torch.randn(2, 2, 16, 512)
    loss = model.compute_loss(hidden, latents, teacher, augmented)
    s, t, a = (F.normalize(x.reshape(-1, 512), dim=1) for x in (model(hidden)[1], teacher, augmented))
    one = F.cross_entropy(s @ a.T / 0.2, (t @ a.T / 0.2).softmax(1))
    other = F.cross_entropy(a @ s.T / 0.2, (a @ t.T / 0.2).softmax(1))
    torch.testing.assert_close(loss.parts["low_level_maps"], 0.1 * (one + other) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.total, loss.parts["low_level"] + loss.parts["low_level_maps"])


def test_half_precision_training_computes_it_in_float32() -> None:
    model, hidden, latents = branch(), torch.randn(2, 12), torch.randn(2, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.compute_loss(hidden.bfloat16(), latents.half())
    assert loss.total.dtype == torch.float32
    assert loss.outputs["latents"].dtype == torch.float32


def test_gradient_reaches_the_backbone() -> None:
    hidden = torch.randn(2, 12, requires_grad=True)
    branch().compute_loss(hidden, torch.randn(2, 4, 16, 16)).total.backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


def test_views_are_sampled_independently_per_image() -> None:
    model = low_level(8)
    maps = torch.arange(3.0).repeat_interleave(16).view(1, 48, 1).expand(40, 48, 512)  # view 0, 1 and 2 of 16 places
    own, view = model.train().draw_views(maps)
    assert own.shape == view.shape == (40, 16, 512)
    assert (own == 0).all()
    assert set(view.unique().tolist()) == {1.0, 2.0}
    assert (view == view[:, :1, :1]).all()
    _, fixed = model.eval().draw_views(maps)
    assert (fixed == 1).all()
