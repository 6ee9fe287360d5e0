"""Contrastive losses between brain and image embeddings (MindEye2, spec section 6.2).

Similarities are computed in float32 at any training precision: with a temperature of 0.006, half-precision rounding
errors would be tens of percent of a logit.

Legend: B batch, E flattened embedding width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.mixco import MixCo
from mindeye_pl.losses.negatives import Negatives, gather_rows, gather_targets


def similarities(query: Tensor, gallery: Tensor) -> Tensor:
    """Return cosine similarities in float32. Shape: `(B, E)`, `(C, E)` -> `(B, C)`."""
    with torch.autocast(query.device.type, enabled=False):
        return F.normalize(query.float(), dim=-1) @ F.normalize(gallery.float(), dim=-1).T


def info_nce_loss(brain: Tensor, clip: Tensor, *, temperature: float) -> Tensor:
    """Compute InfoNCE `()`: cross entropy of identifying the own partner among B, averaged over both directions."""
    return _both_directions(similarities(brain, clip) / temperature, torch.eye(len(brain), device=brain.device))


def bimixco_loss(
    brain: Tensor, clip: Tensor, mixing: MixCo, *, temperature: float, negatives: Negatives = "local"
) -> Tensor:
    """Compute BiMixCo `()`: InfoNCE with the MixCo weights of each mixed sample of this process as targets.

    `brain` are the mixed samples' embeddings `(B, E)`, `clip` those of the images, not mixed.
    """
    targets = mixing.targets().to(brain.device)
    if negatives == "gathered":
        brain, clip, targets = gather_rows(brain), gather_rows(clip), gather_targets(targets)
    logits = similarities(brain, clip) / temperature  # (B, B)
    return _both_directions(logits, targets, targets.T)


def softclip_loss(brain: Tensor, clip: Tensor, *, temperature: float, negatives: Negatives = "local") -> Tensor:
    """Compute SoftCLIP `()`: InfoNCE with the similarities of the images `(B, E)` among themselves as targets."""
    if negatives == "gathered":
        brain, clip = gather_rows(brain), gather_rows(clip)
    targets = (similarities(clip, clip) / temperature).softmax(-1)  # (B, B)
    return _both_directions(similarities(brain, clip) / temperature, targets)


def soft_contrastive_loss(
    student: Tensor, teacher: Tensor, augmented: Tensor, *, temperature: float = 0.2, negatives: Negatives = "local"
) -> Tensor:
    """Compute the cross entropy of the student's similarities with the teacher's, in both directions (section 6.4).

    All are feature vectors `(N, E)`, N images times spatial positions: those of the low-level branch, of the image and
    of its augmented view.
    """
    if negatives == "gathered":
        student, teacher, augmented = gather_rows(student), gather_rows(teacher), gather_rows(augmented)
    targets = similarities(teacher, augmented) / temperature  # (N, N)
    logits = similarities(student, augmented) / temperature
    back = similarities(augmented, student) / temperature  # rows: the augmented teacher's vectors
    return (_cross_entropy(targets.softmax(-1), logits) + _cross_entropy(targets.T.softmax(-1), back)) / 2


def _both_directions(logits: Tensor, targets: Tensor, targets_back: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy over rows of (B, B) logits and of their transpose."""
    back = targets if targets_back is None else targets_back
    return (_cross_entropy(targets, logits) + _cross_entropy(back, logits.T)) / 2


def _cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    return -(targets * logits.log_softmax(-1)).sum(-1).mean()


def temperature_schedule(epochs: int, *, start: float, end: float) -> list[float]:
    """Return SoftCLIP's temperature in each of its epochs: half a cosine from start to end."""
    steps = max(epochs - 1, 1)
    return [end + (start - end) / 2 * (1 + math.cos(math.pi * epoch / steps)) for epoch in range(epochs)]
