"""Outputs of a trained model for the test images, averaged over repetitions.

Legend: n test images, R responses to each, V voxels, S tokens, D token width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mindeye_pl.data.layout.test_set import TestSet, average_repetitions
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.types import Prediction

#: Images that the model reads at once.
_BATCH_SIZE = 32


def predict_retrieval(model: BrainDecoder, brains: TestSet, weights: Tensor) -> Tensor:
    """Return retrieval embeddings `(n, S, D)` of the test images, as `predict_averaged`."""
    return predict_averaged(model, brains, weights, lambda outputs: outputs.retrieval)


def predict_averaged(
    model: BrainDecoder, brains: TestSet, weights: Tensor, part: Callable[[Prediction], Tensor]
) -> Tensor:
    """Return a part `(n, S, D)` of the model's outputs, float32 on the CPU, averaged over an image's responses.

    Args:
        model: in eval mode.
        brains: the responses.
        weights: `(n, R)` weight of each response in an image's average.
        part: takes `(B, S, D)` from the outputs.
    """
    averaged = []
    for voxels, some in zip(*(part.split(_BATCH_SIZE) for part in brains.queries(weights)), strict=True):
        outputs = part(model.predict(voxels.flatten(0, 1).to(model.device))).float().cpu()  # (b * R, S, D)
        averaged.append(average_repetitions(outputs.unflatten(0, some.shape), some))
    return torch.cat(averaged)
