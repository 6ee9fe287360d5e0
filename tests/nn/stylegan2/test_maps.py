"""Resampling against scipy's."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch import Tensor

from mindeye_pl.nn.stylegan2.maps import blur, downsample, upsample

FILTER = np.array([1, 3, 3, 1]) / 8


def along_both_sides(features: Tensor, up: int, down: int, trim: tuple[int, int], gain: float) -> np.ndarray:
    """scipy's resampling of one side after the other; `trim` zeros are put on both ends first, or samples cut off."""
    values = features.double().numpy()
    for axis in (2, 3):
        spread = upfirdn([1.0], values, up=up, axis=axis) if up > 1 else values
        spread = np.concatenate([spread, np.zeros_like(np.take(spread, range(up - 1), axis))], axis)
        pads = [(0, 0)] * 4
        pads[axis] = trim
        full = upfirdn(FILTER * gain, np.pad(spread, pads), axis=axis)
        valid = np.take(full, range(3, full.shape[axis] - 3), axis)
        values = np.take(valid, range(0, valid.shape[axis], down), axis)
    return values


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_upsampling(features: Tensor) -> None:
    np.testing.assert_allclose(upsample(features), along_both_sides(features, 2, 1, (2, 1), 2), atol=1e-6)


def test_downsampling(features: Tensor) -> None:
    np.testing.assert_allclose(downsample(features), along_both_sides(features, 1, 2, (1, 1), 1), atol=1e-6)


@pytest.mark.parametrize(("padding", "gain"), [(1, 4.0), (2, 1.0)])
def test_blur(features: Tensor, padding: int, gain: float) -> None:
    expected = along_both_sides(features, 1, 1, (padding, padding), gain**0.5)
    np.testing.assert_allclose(blur(features, padding=padding, gain=gain), expected, atol=1e-6)


def test_a_constant_map_stays_constant_and_a_mirrored_map_mirrored(features: Tensor) -> None:
    flat = torch.full((1, 2, 8, 8), 0.7)
    for resampled in (upsample(flat), downsample(flat)):
        torch.testing.assert_close(resampled[..., 1:-1, 1:-1], torch.full_like(resampled, 0.7)[..., 1:-1, 1:-1])
    for resample in (upsample, downsample):
        torch.testing.assert_close(resample(features.flip(3)), resample(features).flip(3))
