"""CLIP embeddings as targets."""

import numpy as np
import torch

from mindeye_pl.nn.clip.embeddings import (
    ClampThenNormalise,
    clamp_then_normalise,
    draw_caption,
    is_caption,
    mean_caption,
)


def test_targets_are_clamped_before_they_are_normalised() -> None:
    spiky = torch.tensor([[9.0, 1.0, -0.5, 0.1], [0.3, -7.0, 0.2, 1.4]])
    targets = clamp_then_normalise(spiky)
    clamped = np.clip(spiky.numpy(), -1.5, 1.5)
    np.testing.assert_allclose(targets, clamped / np.linalg.norm(clamped, axis=1, keepdims=True), rtol=1e-6)
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(2))
    normalised_first = torch.nn.functional.normalize(spiky, dim=-1).clamp(-1.5, 1.5)
    assert (targets - normalised_first).abs().max() > 0.1
    torch.testing.assert_close(clamp_then_normalise(spiky, limit=10.0), normalised_first)
    assert clamp_then_normalise(spiky.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(ClampThenNormalise(10.0)(spiky), normalised_first)


def captions() -> torch.Tensor:
    """Return captions of three images, one, two and three; a caption's first element is its image's number."""
    torch.manual_seed(0)
    every = torch.randn(3, 3, 4)
    for image in range(3):
        every[image, :, 0] = 1 + image
        every[image, image + 1 :] = 0
    return every[:, [1, 0, 2]]  # the gap need not be at the end


def test_every_caption_of_an_image_is_sampled() -> None:
    every = captions()
    assert is_caption(every).sum(1).tolist() == [1, 2, 3]
    torch.manual_seed(1)
    drawn = torch.stack([draw_caption(every) for _ in range(100)])  # (100, 3, 4)
    assert (drawn[..., 0] == torch.tensor([1.0, 2.0, 3.0])).all()
    assert [len(drawn[:, image].unique(dim=0)) for image in range(3)] == [1, 2, 3]


def test_the_mean_caption_ignores_padding() -> None:
    every = captions()
    alone = every[0, 1]
    torch.testing.assert_close(mean_caption(every)[0], alone / alone.norm())
    torch.testing.assert_close(mean_caption(every).norm(dim=1), torch.ones(3))
