import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.contrastive import bimixco_loss, info_nce_loss, similarities, softclip_loss
from mindeye_pl.losses.mixco import MixCo, draw_mixco


def pair(batch: int = 8, width: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    brain, clip = torch.randn(2, batch, width, generator=generator)
    return brain, clip


def unmixed(batch: int) -> MixCo:
    return MixCo(torch.arange(batch).roll(1), torch.ones(batch), (batch,))


def test_info_nce_is_cross_entropy_with_the_diagonal() -> None:
    brain, clip = pair()
    logits = F.cosine_similarity(brain[:, None], clip[None], dim=-1) / 0.1
    labels = torch.arange(8)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(info_nce_loss(brain, clip, temperature=0.1), expected)


def test_bimixco_without_mixing_is_info_nce() -> None:
    brain, clip = pair()
    torch.testing.assert_close(
        bimixco_loss(brain, clip, unmixed(8), temperature=0.1), info_nce_loss(brain, clip, temperature=0.1)
    )


def test_softclip_is_cross_entropy_with_soft_labels() -> None:
    brain, clip = pair()
    b, c = F.normalize(brain), F.normalize(clip)
    labels = (c @ c.T / 0.2).softmax(1)
    expected = (F.cross_entropy(b @ c.T / 0.2, labels) + F.cross_entropy(c @ b.T / 0.2, labels)) / 2
    torch.testing.assert_close(softclip_loss(brain, clip, temperature=0.2), expected)


def test_losses_do_not_depend_on_batch_order() -> None:
    brain, clip = pair()
    order = torch.randperm(8)
    for loss in (info_nce_loss, softclip_loss):
        torch.testing.assert_close(loss(brain, clip, temperature=0.1), loss(brain[order], clip[order], temperature=0.1))


def test_info_nce_is_lowest_for_the_true_pairs() -> None:
    _, clip = pair()
    right = info_nce_loss(clip, clip, temperature=0.1)
    assert all(right < info_nce_loss(clip[torch.randperm(8)], clip, temperature=0.1) for _ in range(5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_similarities_are_float32_under_autocast(dtype: torch.dtype) -> None:
    brain, clip = pair(width=2000)
    with torch.autocast("cpu", dtype):
        inside = similarities(brain, clip)
        loss = bimixco_loss(brain, clip, draw_mixco([8]), temperature=0.006)
    assert inside.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(inside, similarities(brain, clip), rtol=0, atol=0)


def test_gradients_reach_the_brain_embeddings() -> None:
    brain, clip = pair()
    brain.requires_grad_()
    for loss in (
        softclip_loss(brain, clip, temperature=0.1),
        bimixco_loss(brain, clip, draw_mixco([8]), temperature=0.1),
    ):
        (gradient,) = torch.autograd.grad(loss, brain)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
