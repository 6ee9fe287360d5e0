"""Functional alignment of a new subject in closed form, onto vectors that the pretraining subjects' maps give.

The shared vector of an image is the mean of the pretraining subjects' aligned responses to it. A new subject has seen
other images, so their shared vectors are predicted from image features, by a first ridge regression. A second one maps
the new subject's voxels to these vectors. Its penalty and gain are chosen by how well the pretrained backbone retrieves
images from held-out predictions. The penalty may pull towards a prior map in place of zero; the scale of that map is
chosen with it.

Legend: N images, n trials, F features of an image, V voxels, h hidden width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Self

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge_decoder import TrialDecomposition

#: One in so many images judges the penalty of the first regression.
_HELD_OUT = 10
#: Parts of the images; held-out predictions of one part have the prior map that the other parts' trials give.
_FOLDS = 5


@dataclass(frozen=True)
class SharedVectors:
    """Linear map from image features to shared vectors.

    Attributes:
        weight: `(h, F)` float32.
        bias: `(h,)` float32.
        penalty: of the ridge regression.
        r2: on images that it was not fitted to, of all dimensions together.
    """

    weight: np.ndarray
    bias: np.ndarray
    penalty: float
    r2: float

    @classmethod
    def fit(cls, features: np.ndarray, vectors: np.ndarray, penalties: Sequence[float]) -> Self:
        """Fit features `(N, F)` to vectors `(N, h)`; one in ten images chooses the penalty.

        Penalties are those of features with a mean variance of 1. Raises a UserError for fewer than 20 images.
        """
        if len(features) < 2 * _HELD_OUT:
            what = "too few images of pretraining subjects for a closed-form alignment"
            raise UserError(what, got=len(features), expected=f"at least {2 * _HELD_OUT}")
        scale = 1 / max(float(np.sqrt(features.var(0).mean())), 1e-12)
        scaled, held_out = features * np.float32(scale), np.arange(len(features)) % _HELD_OUT == 0
        spread = float(((vectors[held_out] - vectors[~held_out].mean(0)) ** 2).sum())
        errors = {}
        for penalty in penalties:
            model = Ridge(penalty).fit(scaled[~held_out], vectors[~held_out])
            errors[penalty] = float(((model.predict(scaled[held_out]) - vectors[held_out]) ** 2).sum())
        penalty = min(errors, key=errors.__getitem__)
        model = Ridge(penalty).fit(scaled, vectors)
        weight, bias = (np.asarray(each, np.float32) for each in (model.coef_ * scale, model.intercept_))
        return cls(weight, bias, float(penalty), 1 - errors[penalty] / max(spread, 1e-30))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Predict the shared vectors `(N, h)` of images with features `(N, F)`."""
        return np.asarray(features @ self.weight.T + self.bias, np.float32)


@dataclass(frozen=True)
class ClosedFormAlignment:
    """Linear map from a subject's voxels to the shared space.

    Attributes:
        weight: `(h, V)` float32.
        bias: `(h,)` float32.
        choices: plain data: `penalty`, `gain`, `prior_scale`, the held-out `score` of these.
    """

    weight: Tensor
    bias: Tensor
    choices: dict[str, Any]

    @classmethod
    def fit(
        cls,
        betas: np.ndarray,
        stimulus_ids: np.ndarray,
        vectors: np.ndarray,
        *,
        penalties: Sequence[float],
        gains: Sequence[float],
        score: Callable[[Tensor], float],
        prior: Callable[[np.ndarray], Tensor] | None = None,
        prior_scales: Sequence[float] = (0.0,),
        device: torch.device | None = None,
    ) -> Self:
        """Fit trials to the shared vectors of their images.

        Ridge regression shrinks predictions towards their mean; a gain spreads them again. A prediction is held out by
        leaving out all trials of its image.

        Args:
            betas: `(n, V)` of the trials.
            stimulus_ids: `(n,)`, the image of each trial.
            vectors: `(N, h)` of the images in ascending order.
            penalties: candidates, positive.
            gains: candidates, factors on the deviation from the mean vector, chosen in turn with penalty and scale.
            score: of held-out predictions `(N, h)`, larger is better.
            prior: returns the map `(h, V)` that the penalty pulls towards, from the trials of a mask `(n,)`; None for
                zero. Where it depends on the trials, the map of all of them would give away their images.
            prior_scales: candidates, factors on this map; read with a prior alone.
            device: of the computations.
        """
        decomposition = TrialDecomposition(betas, stimulus_ids, device)
        targets = torch.from_numpy(vectors).to(decomposition.device)
        mean = targets.mean(0)  # (h,)
        folds = [] if prior is None else list(_without_each_fold(prior, stimulus_ids))

        @cache
        def held_out(penalty: float) -> tuple[Tensor, Tensor]:
            """Return predictions without a prior, less the mean, and what the prior adds to them: `(N, h)` each."""
            added = torch.zeros_like(targets)
            for fold, found in folds:
                added[fold::_FOLDS] = decomposition.prior_residuals(penalty, found.T.to(targets))[fold::_FOLDS]
            return targets - decomposition.residuals(penalty) @ targets - mean, added

        @cache
        def score_of(penalty: float, scale: float, gain: float) -> float:
            deviation, added = held_out(penalty)
            return score(mean + gain * (deviation + scale * added))

        # The best gain depends little on the rest: in turn, until nothing changes, not a grid of all three.
        before, gain = None, sorted(gains)[len(gains) // 2]
        while gain != before:
            before, scales = gain, prior_scales if folds else (0.0,)
            penalty, scale = max(product(penalties, scales), key=lambda pair: score_of(*pair, before))
            gain = max(gains, key=lambda each: score_of(penalty, scale, each))
        towards = None if prior is None else scale * prior(np.ones(len(betas), bool)).T.to(targets)
        weight, bias = decomposition.coefficients(targets, penalty, towards)
        chosen = {
            "penalty": float(penalty),
            "gain": float(gain),
            "prior_scale": float(scale),
            "score": score_of(penalty, scale, gain),
        }
        return cls(gain * weight.T.cpu(), (mean + gain * (bias - mean)).cpu(), chosen)


def _without_each_fold(prior: Callable[[np.ndarray], Tensor], stimulus_ids: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    """Yield each fold of the images in ascending order, and the prior map from the trials of all other images."""
    _, image = np.unique(stimulus_ids, return_inverse=True)
    for fold in range(_FOLDS):
        yield fold, prior(image % _FOLDS != fold)
