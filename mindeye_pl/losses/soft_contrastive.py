"""Contrastive loss on feature maps for the low-level branch (MindEye2, spec section 6.4).

Legend: N feature vectors of a batch (images times spatial positions), E their width.
"""

import torch
from torch import Tensor

from mindeye_pl.losses.contrastive import similarities
from mindeye_pl.losses.negatives import Negatives, gather_rows


def soft_contrastive_loss(
    student: Tensor, teacher: Tensor, augmented: Tensor, *, temperature: float = 0.2, negatives: Negatives = "local"
) -> Tensor:
    """Compute the cross entropy of the student's similarities with the teacher's, in both directions.

    Shape:
        student `(N, E)`, teacher `(N, E)` of the image, augmented `(N, E)` of its augmented view -> `()`.

    Args:
        student: features of the low-level branch.
        teacher: features of the image.
        augmented: features of the image's augmented view.
        temperature: divisor of the cosines.
        negatives: `local` | `gathered`, see `losses.negatives`.
    """
    if negatives == "gathered":
        student, teacher, augmented = gather_rows(student), gather_rows(teacher), gather_rows(augmented)
    targets = similarities(teacher, augmented) / temperature  # (N, N)
    logits = similarities(student, augmented) / temperature
    back = similarities(augmented, student) / temperature  # rows: the augmented teacher's vectors
    return (_cross_entropy(targets, logits) + _cross_entropy(targets.T, back)) / 2


def _cross_entropy(target_logits: Tensor, logits: Tensor) -> Tensor:
    return -(torch.softmax(target_logits, -1) * torch.log_softmax(logits, -1)).sum(-1).mean()
