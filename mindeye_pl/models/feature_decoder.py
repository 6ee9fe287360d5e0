"""Features of a frozen brain encoder to target tokens, as a system that `Reconstructor` draws images from.

Legend: B batch, b rows of one subject, V numbers of a row: P patches of F features, S tokens, D token width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.nn.brain.token_bridge import TokenBridge
from mindeye_pl.types import BrainBatch, PartLoss, Prediction


class FeatureDecoder(BrainDecoder):
    """A bridge in place of alignment, backbone and prior; in place of voxels it reads precomputed features, flat.

    The tokens are the retrieval embedding too, and images are drawn from them directly. The published code averages
    the features of an image's repetitions and reads their mean.

    Args:
        bridge: features to target tokens.
    """

    published_averaging = "voxels"

    def __init__(self, bridge: TokenBridge):
        super().__init__(None, None)
        self.bridge = bridge

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """Read one or more subjects' features, one `(b, V)` tensor per subject; all subjects share the bridge."""
        features = torch.cat(list(voxels))
        tokens = self.bridge(features)  # (B, S, D)
        return Prediction(features, tokens, tokens)

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """Return the mean squared error of the tokens, by which the published bridge was trained."""
        tokens = self(batch.voxels, batch.subject_index).tokens
        loss = F.mse_loss(tokens, batch.targets["tokens"].float())
        return PartLoss(loss, {"tokens": loss.detach()}, {"retrieval": tokens})
