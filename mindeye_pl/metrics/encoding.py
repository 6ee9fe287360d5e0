"""Ridge encoding model: regression from image features to betas.

Reconstructions that were guided or selected by an encoding model must be scored by another one. This one needs no
weight file: any function of images provides the features, and the subject's training trials provide the rest.

Each voxel v has its own weights and its own penalty: min over w_v, b_v of ||y_v - Z w_v - b_v||^2 + alpha_v ||w_v||^2,
where Z are the features' principal components and alpha_v is chosen by leaving one image out (`ridge_blocks`).

Legend: n training images, m images to predict, F features, K components, V voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge import ridge_blocks

#: Candidate penalties, for features scaled to a mean squared length of 1 per image.
ALPHAS = tuple(10.0**power for power in range(-4, 5))
#: Larger float32 feature matrices are processed in batches of images.
_MAX_BYTES_PER_BATCH = 2**30


@dataclass(frozen=True)
class RidgeEncoder:
    """A fitted encoding model."""

    mean: np.ndarray  # (F,) float32, feature mean over the training images
    components: np.ndarray  # (K, F) float32, principal axes of the features, divided by their size
    weights: np.ndarray  # (K, V) float32
    intercept: np.ndarray  # (V,) float32
    alphas: np.ndarray  # (V,), penalty of each voxel
    stimulus_ids: np.ndarray | None = None  # (n,) int64, training images; None if unknown

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        betas: np.ndarray,
        *,
        stimulus_ids: np.ndarray | None = None,
        num_components: int = 1024,
        alphas: Sequence[float] = ALPHAS,
        voxels_per_block: int = 2048,
    ) -> Self:
        """Fit the model on training trials.

        Args:
            features: `(n, F)` of the training images, one row per image; memory-mapped is fine. They are only centred:
                the caller scales groups of features that have different units.
            betas: `(n, V)` of the same images, repetitions averaged.
            stimulus_ids: `(n,)` of the images, so that `predict` can refuse training images.
            num_components: maximum K. With K as large as n or F, this is ridge regression on the features themselves
                (the penalty is invariant to rotation); a smaller K drops the directions of least variance.
            alphas: candidate penalties, positive.
            voxels_per_block: voxels fitted at once.

        Raises:
            UserError: for fewer than three images, repeated images, features that are not finite or the same for all
                images, or penalties that are not positive.
        """
        assert len(features) == len(betas), f"features of {len(features)} images, betas of {len(betas)}"
        if len(features) < 3:
            raise UserError("too few images for an encoding model", got=len(features), expected="at least 3")
        if stimulus_ids is not None:
            stimulus_ids = np.asarray(stimulus_ids, np.int64)
            assert len(stimulus_ids) == len(features), f"{len(stimulus_ids)} ids for {len(features)} images"
            ids, counts = np.unique(stimulus_ids, return_counts=True)
            if counts.max() > 1:
                got, fix = f"image {ids[counts.argmax()]}, {counts.max()} times", "average the repetitions first"
                what = "a training image is repeated, which would make leave-one-out leak"
                raise UserError(what, got=got, expected="one row per image", fix=fix)
        mean, axes = principal_axes(features, min(num_components, len(features) - 1, features.shape[1]))
        projected = project(features, mean, axes)  # (n, K)
        size = np.sqrt(np.square(projected, dtype=np.float64).sum(1).mean())
        if not size > 0:
            raise UserError("the features are the same for all training images", expected="features that vary")
        weights = np.empty((len(axes), betas.shape[1]), np.float32)
        intercept, chosen = np.empty(betas.shape[1], np.float32), np.empty(betas.shape[1])
        # The prediction is affine: the origin and the unit vectors as probes yield intercept and weights.
        probes = np.concatenate([np.zeros((1, len(axes))), np.eye(len(axes))]).astype(np.float32)
        scaled = (projected / size).astype(np.float32)
        fits = ridge_blocks(scaled, betas, probes, alphas=alphas, targets_per_block=voxels_per_block)
        for block, predicted, penalties in fits:
            intercept[block], weights[:, block] = predicted[0], predicted[1:] - predicted[0]
            chosen[block] = penalties
        return cls(mean, (axes / size).astype(np.float32), weights, intercept, chosen, stimulus_ids)

    @property
    def num_voxels(self) -> int:
        """Number of voxels, V."""
        return len(self.intercept)

    def predict(self, features: np.ndarray, *, stimulus_ids: np.ndarray | None = None) -> np.ndarray:
        """Return betas `(m, V)` float32 for features `(m, F)` of images or reconstructions with ids `(m,)`.

        Raises:
            UserError: if the number of features differs, or an image is a training image.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            expected = f"(m, {len(self.mean)})"
            raise UserError("features do not fit the encoding model", got=features.shape, expected=expected)
        if stimulus_ids is not None and self.stimulus_ids is not None:
            seen = np.intersect1d(stimulus_ids, self.stimulus_ids)
            if len(seen):
                raise UserError(
                    "the encoding model was trained on images that it would score",
                    got=f"{len(seen)} of {len(stimulus_ids)} images, for example image {seen[0]}",
                    expected="test images that are not among the training trials",
                )
        return project(features, self.mean, self.components) @ self.weights + self.intercept


def held_out_residuals(
    features: np.ndarray, means: np.ndarray, image: np.ndarray, betas: np.ndarray, *, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Return each trial's betas minus the prediction of an encoder that has not seen its image, `(t, V)` float32.

    Args:
        features: `(n, F)` of the training images, one row per image.
        means: `(n, V)` of the same images, repetitions averaged.
        image: `(t,)` row of each trial's image.
        betas: `(t, V)` of the trials.
        folds: encoders that are fitted, each without one part of the images; at most n.
        seed: of the parts.
    """
    from sklearn.model_selection import KFold

    residuals = np.empty(betas.shape, np.float32)
    for fitted, held_out in KFold(min(folds, len(features)), shuffle=True, random_state=seed).split(features):
        encoder = RidgeEncoder.fit(features[fitted], means[fitted])
        trials = np.isin(image, held_out)
        residuals[trials] = betas[trials] - encoder.predict(features)[image[trials]]
    return residuals


def principal_axes(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `(F,)` and the first principal axes `(count, F)` of the rows, float32.

    Raises a `UserError` for features that are not finite.
    """
    from sklearn.decomposition import PCA, IncrementalPCA

    rows = _MAX_BYTES_PER_BATCH // (4 * features.shape[1])
    if len(features) <= max(rows, count):
        model = PCA(count, random_state=0)  # large features need a randomised decomposition
        with np.errstate(invalid="ignore"):  # explained variance ratio of 0 / 0 if all images are the same
            model.fit(_finite(features[:]))
    else:
        model = IncrementalPCA(count)
        for batch in np.array_split(np.arange(len(features)), max(1, len(features) // max(rows, count))):
            model.partial_fit(_finite(features[batch[0] : batch[-1] + 1]))
    return model.mean_.astype(np.float32), model.components_.astype(np.float32)


def _finite(features: np.ndarray) -> np.ndarray:
    """Convert to float32; raises a UserError for NaN or infinity."""
    features = np.asarray(features, np.float32)
    if not np.isfinite(features).all():
        raise UserError("features of a training image contain NaN or infinity", expected="finite numbers")
    return features


def project(features: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return coordinates `(m, K)` float32 along the axes `(K, F)`, computed in batches of rows."""
    rows = max(1, _MAX_BYTES_PER_BATCH // (4 * len(mean)))
    batches = (np.asarray(features[start : start + rows], np.float32) for start in range(0, len(features), rows))
    return np.concatenate([(batch - mean) @ axes.T for batch in batches])
