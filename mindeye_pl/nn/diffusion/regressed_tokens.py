"""Tokens as a regression from a brain would predict them, for training a decoder to read such tokens.

Legend: N images, B batch, S tokens, D token width, K principal components.
"""

import math

import torch
from torch import Tensor, nn


class RegressedTokens(nn.Module):
    """Replacement of some images' tokens by their mean given noisy data, which is what squared error predicts.

    The data are the tokens with white noise. Along a principal component of standard deviation s, the mean given data
    y is `s**2 / (s**2 + noise**2) * y`, for normal distributions: the components in which tokens vary little are lost
    first, as they are in a ridge regression from voxels.

    Args:
        tokens: `(N, S, D)` clean tokens that determine the components.
        share: probability that an image's tokens are replaced.
        noise: least and greatest standard deviation of the noise; each image's is log-uniform between them.
        components: number of components that a replacement has, at the most N and S * D.
    """

    mean: Tensor  # (S * D,)
    directions: Tensor  # (S * D, K)
    deviations: Tensor  # (K,)

    def __init__(self, tokens: Tensor, *, share: float, noise: tuple[float, float], components: int):
        super().__init__()
        self.share, self.noise = share, noise
        rows = tokens.flatten(1).float()
        mean = rows.mean(0)
        count = min(components, *rows.shape)
        _, values, directions = torch.pca_lowrank(rows - mean, q=count, center=False, niter=4)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer("deviations", values / math.sqrt(len(rows)), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens `(B, S, D)`, some of them replaced, from torch's global random state."""
        replaced = torch.rand(len(tokens), 1, 1, device=tokens.device) < self.share
        low, high = (math.log(limit) for limit in self.noise)
        noise = torch.exp(low + (high - low) * torch.rand(len(tokens), 1, device=tokens.device))  # (B, 1)
        return torch.where(replaced, self.predicted(tokens, noise), tokens)

    def predicted(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """Return the mean of tokens `(B, S, D)` given themselves with white noise of deviation `noise` `(B, 1)`."""
        scores = (tokens.flatten(1).float() - self.mean) @ self.directions  # (B, K)
        data = scores + noise * torch.randn_like(scores)
        means = data * self.deviations**2 / (self.deviations**2 + noise**2)
        return (self.mean + means @ self.directions.mT).view_as(tokens).to(tokens.dtype)
