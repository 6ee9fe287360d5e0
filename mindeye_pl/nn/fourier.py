"""Fourier features of plain numbers: sizes and corners as SDXL reads them (MindEye2, spec sections 7.1 and 9)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def fourier_features(numbers: Sequence[float], width: int) -> Tensor:
    """Cosines, then sines, of each number at frequencies that fall from 1 towards 1e-4, `(len(numbers), width)`.

    Args:
        numbers: pixels, mostly.
        width: of one number's features, even.
    """
    frequencies = torch.exp(-math.log(1e4) * torch.arange(width // 2, dtype=torch.float32) / (width // 2))
    angles = torch.tensor(numbers, dtype=torch.float32)[:, None] * frequencies  # (len(numbers), width / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
