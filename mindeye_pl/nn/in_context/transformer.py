"""Transformer over a subject's voxels that corrects the closed-form inversion; trained on episodes of other subjects.

Voxels are an unordered set: each is described by its estimated weights and their uncertainty, and tells by how much it
deviates from what the present estimate of the image predicts. Latent vectors of each query read them by attention. The
last layer starts at zero, so that an untrained network returns the closed-form estimate.

Legend: m queries, V voxels, d features, L latents, w width, H heads.
"""

import math

import torch
from torch import Tensor, nn

from mindeye_pl.nn.in_context.inversion import infer_features
from mindeye_pl.nn.in_context.support import EstimatedVoxels


class VoxelTransformer(nn.Module):
    """Image features from the estimated voxels of any subject and its responses.

    The result depends neither on the order of the voxels nor on that of the support set.

    Args:
        num_features: d.
        width: w, of latents and voxels.
        heads: H, which divide the width.
        depth: blocks of cross-attention to the voxels, self-attention of the latents and a perceptron.
        latents: L.
    """

    def __init__(self, num_features: int, *, width: int, heads: int, depth: int, latents: int):
        super().__init__()
        self.describe = nn.Sequential(nn.Linear(num_features + 2, width), nn.GELU(), nn.Linear(width, width))
        self.start = nn.Linear(num_features, latents * width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.correction = nn.Linear(latents * width, num_features)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, voxels: EstimatedVoxels, responses: Tensor, *, pseudo_count: float) -> Tensor:
        """Return features of the queries, `(m, V)` -> `(m, d)` float32; the closed form as of `infer_features`."""
        closed_form = infer_features(voxels, responses, pseudo_count=pseudo_count)  # (m, d) float64
        spread = (voxels.noise + voxels.uncertainty).sqrt()  # (V,)
        surprise = (responses.double() - voxels.baseline - closed_form @ voxels.weights) / spread  # (m, V)
        signal = (voxels.weights / spread).T * math.sqrt(len(voxels.weights))  # (V, d), about 1
        described = torch.cat([signal, voxels.noise.log()[:, None], voxels.uncertainty.log()[:, None]], 1)
        described = self.describe(described.float())  # (V, w)
        closed_form, surprise = closed_form.float(), surprise.float()
        latents = self.start(closed_form).unflatten(1, (-1, described.shape[1]))  # (m, L, w)
        for block in self.blocks:
            latents = block(latents, described, surprise)
        return closed_form + self.correction(self.norm(latents).flatten(1))


class _Block(nn.Module):
    """Attention to voxels, among latents, and a perceptron, each with a residual connection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.to_voxels = _VoxelAttention(width, heads)
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, latents: Tensor, described: Tensor, surprise: Tensor) -> Tensor:
        latents = latents + self.to_voxels(self.norms[0](latents), described, surprise)
        normed = self.norms[1](latents)
        latents = latents + self.among(normed, normed, normed, need_weights=False)[0]
        return latents + self.perceptron(self.norms[2](latents))


class _VoxelAttention(nn.Module):
    """Attention whose keys depend on the voxels alone and whose values are linear in their responses.

    All queries share the voxels' descriptions, so no tensor of size m x V x w is needed.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.constant, self.slope = (nn.Linear(width, width) for _ in range(3))

    def forward(self, latents: Tensor, described: Tensor, surprise: Tensor) -> Tensor:
        query = self.query(latents).unflatten(2, (self.heads, -1))  # (m, L, H, w / H)
        key, constant, slope = (
            layer(described).unflatten(1, (self.heads, -1)) for layer in (self.key, self.constant, self.slope)
        )  # (V, H, w / H)
        attention = (torch.einsum("mlhc,vhc->mhlv", query, key) / math.sqrt(key.shape[-1])).softmax(-1)
        # A mean of V independent deviations is of the size 1 / sqrt(V).
        weighted = attention * surprise[:, None, None] * math.sqrt(len(described))
        read = torch.einsum("mhlv,vhc->mlhc", attention, constant) + torch.einsum("mhlv,vhc->mlhc", weighted, slope)
        return self.out(read.flatten(2))
