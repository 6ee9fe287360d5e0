"""Losses of a mapper from voxels to an embedding (Mind Reader, spec section 4.1).

Legend: B batch, D embedding width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.contrastive import info_nce_loss

#: Temperature of the contrastive term.
TEMPERATURE = 0.5


class MapperWeights(NamedTuple):
    """Weights of the terms of the mapper loss, see `MapperLoss`."""

    mse: float
    cosine: float
    contrastive: float = 0.0


#: The two stages of training: stage B halves the weights of stage A and adds a contrastive term.
STAGE_A = MapperWeights(mse=0.4, cosine=0.6)
STAGE_B = MapperWeights(mse=0.2, cosine=0.3, contrastive=0.5)


class MapperLoss(NamedTuple):
    """The weighted sum and its unweighted terms, each `()` float32."""

    total: Tensor
    mse: Tensor  # mean over samples and dimensions
    cosine: Tensor
    contrastive: Tensor | None  # symmetric InfoNCE of cosines; None if its weight is 0


def mapper_loss(
    predicted: Tensor, target: Tensor, weights: MapperWeights, *, temperature: float = TEMPERATURE
) -> MapperLoss:
    """Compute the squared error, cosine and contrastive loss of predicted embeddings `(B, D)`, not normalised.

    The targets `(B, D)` are L2-normalised; the temperature is that of the contrastive term.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        predicted, target = predicted.float(), target.float()
        mse = F.mse_loss(predicted, target)
        cosine = 1 - F.cosine_similarity(predicted, target).mean()
        total = weights.mse * mse + weights.cosine * cosine
        if not weights.contrastive:
            return MapperLoss(total, mse, cosine, None)
        contrastive = info_nce_loss(predicted, target, temperature=temperature)
        return MapperLoss(total + weights.contrastive * contrastive, mse, cosine, contrastive)
