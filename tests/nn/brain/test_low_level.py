"""Networks of the blurry reconstruction: what the decoder's norms keep of a grid."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.brain.low_level import LowLevelHead

WIDTHS = (32, 64, 128)  # as published


def head(norms: Literal["published", "corrected"]) -> LowLevelHead:
    torch.manual_seed(0)
    return LowLevelHead(6, latent_size=8, widths=WIDTHS, norms=norms, maps=False).eval()


def last_norm_of_shifted(norms: Literal["published", "corrected"]) -> tuple[Tensor, Tensor]:
    """The decoder's last norm of a grid, and of the same grid whose channels have other means."""
    norm, grid = head(norms).to_latents.conv_norm_out, torch.randn(3, WIDTHS[0], 8, 8)
    return norm(grid), norm(grid + torch.randn(3, WIDTHS[0], 1, 1))


def test_the_published_norms_lose_the_means_of_the_finest_channels() -> None:
    before, after = last_norm_of_shifted("published")
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_the_corrected_norms_keep_them() -> None:
    before, after = last_norm_of_shifted("corrected")
    assert (after.mean((2, 3)) - before.mean((2, 3))).abs().mean() > 0.3


@pytest.mark.parametrize("norms", ["published", "corrected"])
def test_either_reads_the_same_checkpoint(norms: Literal["published", "corrected"]) -> None:
    made, published = head(norms), head("published").state_dict()
    assert made.made_of["norms"] == norms
    assert {name: each.shape for name, each in made.state_dict().items()} == {n: e.shape for n, e in published.items()}
    made.load_state_dict(published)
