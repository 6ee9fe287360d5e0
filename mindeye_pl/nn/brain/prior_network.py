"""Denoising network of the diffusion prior: a transformer over brain tokens, time and noisy tokens.

Sources: MindEye2, spec section 4; MindEye1, spec section 4.2; MindEye1's class-token model, section 6.1.

Legend: B batch, S tokens, D token width, N sequence length, P padding tokens, H heads, d head width.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import NonNegativeInt, PositiveInt


class GainLayerNorm(nn.Module):
    """Layer norm of the last dimension with a gain and no bias; eps is 1e-5 for float32 input and 1e-3 for any other.

    `stable` divides each row by its maximum first, which prevents overflow in half precision.
    """

    def __init__(self, dim: int, *, stable: bool = False):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.stable = stable

    def forward(self, x: Tensor) -> Tensor:
        """Normalise. Shape: `(..., D)` -> `(..., D)`."""
        if self.stable:
            x = x / x.amax(-1, keepdim=True).detach()
        if x.dtype == torch.float32:
            return F.layer_norm(x, self.gain.shape, self.gain, eps=1e-5)
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * self.gain


class Rotary(nn.Module):
    """Rotary position encoding of channel pairs (2i, 2i+1); channels past `dim` pass through."""

    def __init__(self, dim: int):
        super().__init__()
        frequencies = 10000.0 ** (-torch.arange(0, dim, 2, device="cpu").float() / dim)
        self.frequencies = nn.Parameter(frequencies, requires_grad=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Rotate rows by their positions, counted from `first`. Shape: `(..., N, d)` -> `(..., N, d)`."""
        positions = torch.arange(first, first + x.shape[-2], device=x.device, dtype=self.frequencies.dtype)
        angles = torch.outer(positions, self.frequencies)  # (N, dim / 2)
        cos, sin = angles.cos(), angles.sin()
        rotated, passed = x.split([2 * len(self.frequencies), x.shape[-1] - 2 * len(self.frequencies)], dim=-1)
        even, odd = rotated[..., 0::2], rotated[..., 1::2]
        rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
        return torch.cat([rotated.to(x.dtype), passed], dim=-1)


class RelativePositionBias(nn.Module):
    """Learned bias of the attention logits by distance; all later keys use the bucket of distance 0.

    Half of the buckets are for exact distances, half for logarithmic ones up to `max_distance`.
    """

    num_buckets, max_distance = 32, 128

    def __init__(self, heads: int):
        super().__init__()
        self.bias = nn.Embedding(self.num_buckets, heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias `(H, queries, keys)` of query position i and key position j."""
        device = self.bias.weight.device
        distance = torch.arange(queries, device=device)[:, None] - torch.arange(keys, device=device)[None, :]
        return self.bias(self._bucket(distance.clamp(min=0))).permute(2, 0, 1)

    def _bucket(self, distance: Tensor) -> Tensor:
        exact = self.num_buckets // 2
        scale = (self.num_buckets - exact) / math.log(self.max_distance / exact)
        far = exact + ((distance.clamp(min=1).float() / exact).log() * scale).long()
        return torch.where(distance < exact, distance, far.clamp(max=self.num_buckets - 1))


class CosineAttention(nn.Module):
    """Multi-query attention on normalised queries and keys, with one learned null key and value."""

    scale = 16.0

    def __init__(self, dim: int, *, head_dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = GainLayerNorm(dim)
        self.to_queries = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_key_value = nn.Linear(dim, 2 * head_dim, bias=False)
        self.null_key_value = nn.Parameter(torch.randn(2, head_dim))
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)
        self.out_norm = GainLayerNorm(dim)

    def forward(self, x: Tensor, rotary: Rotary, position_bias: Tensor) -> Tensor:
        """Attend from the last n tokens to the null key and all tokens; the bias says how many they are.

        Shape: `(B, N, D)`, `(H, n, N + 1)` -> `(B, n, D)`.
        """
        x, num_queries = self.norm(x), position_bias.shape[1]
        first = x.shape[1] - num_queries
        queries = self.to_queries(x[:, first:]).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, n, d)
        queries = rotary(queries, first)
        keys, values = self.to_key_value(x).chunk(2, dim=-1)  # (B, N, d)
        null_key, null_value = (null.expand(len(x), 1, -1).to(keys.dtype) for null in self.null_key_value)
        keys = torch.cat([null_key, rotary(keys)], dim=1)  # (B, N + 1, d)
        values = torch.cat([null_value, values], dim=1)
        queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
        mask = position_bias.unsqueeze(0).to(queries.dtype)
        keys, values = (some.unsqueeze(1).expand(-1, self.heads, -1, -1) for some in (keys, values))
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=self.scale)
        return self.out_norm(self.to_out(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Layer norm, then a SwiGLU of four times the width; `inner_norm` normalises the SwiGLU's output."""

    def __init__(self, dim: int, *, inner_norm: bool = False):
        super().__init__()
        self.norm = GainLayerNorm(dim)
        self.expand = nn.Linear(dim, 8 * dim, bias=False)
        self.inner_norm = GainLayerNorm(4 * dim) if inner_norm else nn.Identity()
        self.contract = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply norm and SwiGLU, without a residual. Shape: `(B, N, D)` -> `(B, N, D)`."""
        value, gate = self.expand(self.norm(x)).chunk(2, dim=-1)
        return self.contract(self.inner_norm(value * F.silu(gate)))


class PriorTransformer(nn.Module):
    """Attention and feed-forward layers with residuals, a final norm and a projection.

    `causal` limits a token's attention to the null key, itself and earlier tokens.
    """

    def __init__(self, dim: int, *, depth: int, head_dim: int, heads: int, causal: bool, inner_norm: bool):
        super().__init__()
        self.causal = causal
        self.rotary = Rotary(min(32, head_dim))
        self.position_bias = RelativePositionBias(heads)
        self.attention = nn.ModuleList(CosineAttention(dim, head_dim=head_dim, heads=heads) for _ in range(depth))
        self.feed_forward = nn.ModuleList(FeedForward(dim, inner_norm=inner_norm) for _ in range(depth))
        self.norm = GainLayerNorm(dim, stable=True)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, num_read: int) -> Tensor:
        """Apply all layers; the last one makes no more than the last n tokens, which are read.

        Shape: `(B, N, D)` -> `(B, n, D)`.
        """
        position_bias = self.position_bias(x.shape[1], x.shape[1] + 1)  # (H, N, N + 1), the null key first
        if self.causal:
            later = torch.ones(position_bias.shape[1:], dtype=torch.bool, device=x.device).triu(2)
            position_bias = position_bias.masked_fill(later, -math.inf)
        depth = len(self.attention)
        for layer, (attention, feed_forward) in enumerate(zip(self.attention, self.feed_forward, strict=True), 1):
            wanted = num_read if layer == depth else x.shape[1]
            x = attention(x, self.rotary, position_bias[:, -wanted:]) + x[:, -wanted:]
            x = feed_forward(x) + x
        return self.project_out(self.norm(x))


class TimeEmbedding(nn.Module):
    """Embedding of continuous times: sinusoids, then an MLP."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        first, second, third = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.network = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), third)

    def forward(self, times: Tensor) -> Tensor:
        """Embed times. Shape: `(B,)` -> `(B, D)`."""
        half = self.dim // 2
        frequencies = torch.exp(torch.arange(half, device=times.device) * (-math.log(10000) / (half - 1)))
        angles = times.float()[:, None] * frequencies
        return self.network(torch.cat([angles.sin(), angles.cos()], dim=-1))


#: Use of the brain tokens in the network.
PriorCondition = Literal["sequence", "residual"]

#: Order of the sequence.
Layout = Literal["parallel", "causal"]


class PriorNetwork(Recorded):
    """Prediction of clean tokens from noisy tokens, a time and brain tokens.

    Args:
        num_tokens: S.
        token_dim: D.
        depth: transformer layers.
        head_dim: d.
        heads: H.
        condition: use of the brain tokens. `sequence` (published): they precede the noisy tokens, and attention has to
            learn which brain token belongs to which noisy token. `residual`: each brain token is also added to the
            noisy token of the same index, and the network predicts the difference from it; the weights are the same.
        layout: order of the sequence. `parallel`: [brain | time | noisy]; learned positions are added to the noisy
            tokens, every token attends to every other, and the prediction is read at the noisy tokens. `causal`, from
            the text-to-image prior that MindEye1's class-token model starts from: [padding | brain | time | noisy |
            query]; no token attends to a later one, and the prediction is read at the learned query.
        padding: number of learned tokens that replace the text tokens in the causal layout.
        time_table: number of times with a learned embedding each; 0 takes continuous sinusoids.
        inner_norm: normalises the output of each feed-forward layer's SwiGLU.
    """

    def __init__(
        self,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        depth: PositiveInt = 6,
        head_dim: PositiveInt = 52,
        heads: PositiveInt = 32,
        condition: PriorCondition = "sequence",
        layout: Layout = "parallel",
        padding: NonNegativeInt = 0,
        time_table: NonNegativeInt = 0,
        inner_norm: bool = False,
    ):
        super().__init__()
        assert layout == "causal" or padding == 0, padding
        self.num_tokens, self.token_dim = num_tokens, token_dim
        self.condition, self.layout = condition, layout
        self.position_query = nn.Parameter(torch.randn(num_tokens, token_dim) * token_dim**-0.5)
        self.null_brain_tokens = nn.Parameter(torch.randn(num_tokens, token_dim))
        self.null_noisy_tokens = nn.Parameter(torch.randn(num_tokens, token_dim))
        if layout == "causal":
            self.padding_tokens = nn.Parameter(torch.randn(padding, token_dim))
        self.time_embedding = nn.Embedding(time_table, token_dim) if time_table else TimeEmbedding(token_dim)
        self.transformer = PriorTransformer(
            token_dim, depth=depth, head_dim=head_dim, heads=heads, causal=layout == "causal", inner_norm=inner_norm
        )

    def forward(self, noisy: Tensor, times: Tensor, brain: Tensor, keep_brain: Tensor, keep_noisy: Tensor) -> Tensor:
        """Predict clean tokens `(B, S, D)` from noisy tokens `(B, S, D)`, integer times `(B,)` and brain tokens.

        False in `keep_brain` `(B,)` replaces a sample's brain tokens by learned null tokens, in `keep_noisy` `(B,)` its
        noisy tokens.
        """
        brain = torch.where(keep_brain[:, None, None], brain, self.null_brain_tokens.to(brain.dtype))
        noisy = torch.where(keep_noisy[:, None, None], noisy, self.null_noisy_tokens.to(noisy.dtype))
        if self.layout == "parallel":
            noisy = noisy + self.position_query
        if self.condition == "residual":
            noisy = noisy + brain
        time = self.time_embedding(times).unsqueeze(1)  # (B, 1, D)
        sequence = torch.cat([brain, time, noisy], dim=1)  # (B, 2 S + 1, D)
        if self.layout == "causal":
            padding, query = (part.expand(len(noisy), -1, -1) for part in (self.padding_tokens, self.position_query))
            sequence = torch.cat([padding, sequence, query], dim=1)  # (B, P + 3 S + 1, D)
        predicted = self.transformer(sequence, self.num_tokens)
        return brain + predicted if self.condition == "residual" else predicted
