"""Contrastive losses between brain and image embeddings (MindEye2, spec section 6.2).

Similarities are computed in float32 whatever the precision of training: divided by a temperature of 0.006, the
rounding of half precision would be tens of percent of a logit.

Legend: B batch, E flattened embedding width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.mixco import MixCo
from mindeye_pl.losses.negatives import Negatives, gather_rows, gather_targets


def similarities(query: Tensor, gallery: Tensor) -> Tensor:
    """Cosines in float32. Shape: `(B, E)`, `(C, E)` -> `(B, C)`."""
    with torch.autocast(query.device.type, enabled=False):
        return F.normalize(query.float(), dim=-1) @ F.normalize(gallery.float(), dim=-1).T


def info_nce_loss(brain: Tensor, clip: Tensor, *, temperature: float) -> Tensor:
    """Cross entropy of finding the own partner among the batch, mean of both directions.

    Shape: `(B, E)`, `(B, E)` -> `()`.
    """
    return _both_directions(similarities(brain, clip) / temperature, torch.eye(len(brain), device=brain.device))


def bimixco_loss(
    brain: Tensor, clip: Tensor, mixing: MixCo, *, temperature: float, negatives: Negatives = "local"
) -> Tensor:
    """InfoNCE whose targets are the shares that each mixed sample is made of.

    Shape: `(B, E)`, `(B, E)` -> `()`.

    Args:
        brain: of the mixed samples.
        clip: of the images before mixing.
        mixing: of this process's share of the batch.
        temperature: of the logits.
        negatives: `local` | `gathered`, see `losses.negatives`.
    """
    targets = mixing.targets().to(brain.device)
    if negatives == "gathered":
        brain, clip, targets = gather_rows(brain), gather_rows(clip), gather_targets(targets)
    logits = similarities(brain, clip) / temperature  # (B, B)
    return _both_directions(logits, targets, targets.T)


def softclip_loss(brain: Tensor, clip: Tensor, *, temperature: float, negatives: Negatives = "local") -> Tensor:
    """InfoNCE whose targets are the images' similarities among themselves.

    Shape: `(B, E)`, `(B, E)` -> `()`.

    Args:
        brain: of the samples.
        clip: of their images.
        temperature: of the logits.
        negatives: `local` | `gathered`, see `losses.negatives`.
    """
    if negatives == "gathered":
        brain, clip = gather_rows(brain), gather_rows(clip)
    targets = (similarities(clip, clip) / temperature).softmax(-1)  # (B, B)
    return _both_directions(similarities(brain, clip) / temperature, targets)


def _both_directions(logits: Tensor, targets: Tensor, targets_back: Tensor | None = None) -> Tensor:
    """Mean cross entropy over rows of (B, B) logits and of their transpose."""
    back = targets if targets_back is None else targets_back
    forward_loss = -(targets * logits.log_softmax(-1)).sum(-1).mean()
    backward_loss = -(back * logits.T.log_softmax(-1)).sum(-1).mean()
    return (forward_loss + backward_loss) / 2


def temperature_schedule(epochs: int, *, start: float, end: float) -> list[float]:
    """SoftCLIP's temperature in each of its epochs: half a cosine from start to end."""
    steps = max(epochs - 1, 1)
    return [end + (start - end) / 2 * (1 + math.cos(math.pi * epoch / steps)) for epoch in range(epochs)]
