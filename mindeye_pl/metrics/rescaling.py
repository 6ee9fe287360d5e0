"""Rescaling of predictions that a regression has shrunk towards the mean.

The less a target can be predicted, the nearer to its mean a penalised prediction lies. That has the smallest error, and
draws grey images. Rescaled predictions vary as the targets do.

Legend: m images, T targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Forms of rescaling: as predicted; each target to its standard deviation; each image to the root mean square norm.
AS_PREDICTED, TO_STD, TO_NORM = "as predicted", "to the standard deviation", "to the norm"
RESCALINGS = (AS_PREDICTED, TO_STD, TO_NORM)

_MIN_STD = 1e-6


@dataclass(frozen=True)
class Spread:
    """Statistics of targets and predictions over training images, each of the shape of one image's targets.

    Attributes:
        mean: of the targets.
        std: of the targets.
        predicted_std: of held-out predictions.
    """

    mean: Tensor
    std: Tensor
    predicted_std: Tensor

    def rescale(self, predictions: Tensor, form: str) -> Tensor:
        """Return predictions `(m, ...)` float32 in one of `RESCALINGS`.

        A target whose predictions are constant is left as predicted.
        """
        assert form in RESCALINGS, form
        predictions = predictions.float()
        if form == AS_PREDICTED:
            return predictions
        deviation = predictions - self.mean
        if form == TO_STD:
            varies = self.predicted_std > _MIN_STD * self.std
            factor = torch.where(varies, self.std / self.predicted_std.clamp_min(1e-30), 1.0)
            return self.mean + factor * deviation
        norms = torch.linalg.vector_norm(deviation.flatten(1), dim=1).view(-1, *[1] * self.mean.ndim)
        return self.mean + deviation * (torch.linalg.vector_norm(self.std) / norms.clamp_min(1e-12))

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor | np.ndarray], shape: tuple[int, ...]) -> "Spread":
        """Return the statistics of `mean`, `std` and `predicted_std` `(T,)`, in the shape of one image's targets."""
        names = ("mean", "std", "predicted_std")
        return cls(*(torch.as_tensor(arrays[name]).float().reshape(shape) for name in names))


def best_rescaling(scores: Mapping[str, float]) -> str:
    """Return the form with the highest score; of equal ones the first."""
    return max(scores, key=lambda form: scores[form])
