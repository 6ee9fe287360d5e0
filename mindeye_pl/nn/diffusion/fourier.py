"""Fourier features: of SDXL's sizes and crops (MindEye2, spec sections 7.1 and 9), and of grid positions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def fourier_features(numbers: Sequence[float] | Tensor, width: int) -> Tensor:
    """Return cosines, then sines, of each number at frequencies from 1 down to 1e-4: `(n,)` -> `(n, width)`."""
    values = torch.as_tensor(numbers, dtype=torch.float32)
    steps = torch.arange(width // 2, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(-math.log(1e4) * steps / (width // 2))
    angles = values[:, None] * frequencies  # (n, width / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def grid_positions(count: int, width: int) -> Tensor:
    """Return features of the positions of a square grid, row by row, `(count, width)` of unit variance.

    They are sines and cosines of the row, then of the column.
    """
    side = round(count**0.5)
    assert side**2 == count, f"{count} positions make no square"
    assert width % 4 == 0, width
    cycles = torch.logspace(-2, 2, width // 4, base=2)  # a quarter of a cycle to four cycles over the side
    angles = 2 * math.pi * (torch.arange(side)[:, None] + 0.5) / side * cycles  # (side, width / 4)
    features = 2**0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = features[:, None].expand(side, side, -1)
    return torch.cat([rows, rows.transpose(0, 1)], dim=-1).reshape(count, width)
