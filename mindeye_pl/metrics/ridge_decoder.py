"""Ridge regression from trials to targets of their images: one eigendecomposition for all penalties and targets.

All trials of an image have the same targets. The prediction for an image is that for the mean of its responses. A
held-out prediction comes from the fit without all of the image's trials, in closed form (leave one image out).

Legend: n trials, N images, V voxels, r rank, T targets, A penalties, m test images, G images with equally many trials.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

#: Singular directions whose eigenvalue is a smaller fraction of the largest one are rounding errors.
MIN_EIGENVALUE = 1e-10
#: Images whose blocks of the hat matrix are inverted at once.
_IMAGES_PER_BLOCK = 1024


class TrialDecomposition:
    """The centred trials `(n, V)` = left diag(singular) right^T.

    It takes the smaller of V x V and n x n. The decomposition is computed in float64 and kept in float32.

    Args:
        voxels: `(n, V)` float32 or float64.
        stimulus_ids: `(n,)`, the image of each trial.
        device: of all computations.

    Attributes:
        stimulus_ids: `(N,)` int64 ascending.
        counts: `(N,)` trials of each image.
    """

    def __init__(self, voxels: np.ndarray, stimulus_ids: np.ndarray, device: torch.device | None = None):
        assert len(voxels) == len(stimulus_ids), f"{len(voxels)} trials of {len(stimulus_ids)} images"
        self.stimulus_ids, image, self.counts = np.unique(stimulus_ids, return_inverse=True, return_counts=True)
        self._rows = np.argsort(image, kind="stable")  # trials by image
        self._first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        centred = torch.tensor(voxels, dtype=torch.float64, device=device)
        self._mean = centred.mean(0)
        centred -= self._mean
        trials, width = centred.shape
        if trials <= width:
            values, left = torch.linalg.eigh(centred @ centred.T)
            values, left = _significant(values, left)
            right = centred.T @ left / values.sqrt()
        else:
            values, right = torch.linalg.eigh(centred.T @ centred)
            values, right = _significant(values, right)
            left = centred @ right / values.sqrt()
        self._values, self._left, self._right = values.float(), left.float(), right.float()
        self._has_complement = len(values) < trials - 1  # directions of the trials that no voxel has
        by_image = torch.from_numpy(image).to(left.device)
        sums = left.new_zeros(self.num_images, len(values)).index_add_(0, by_image, left)
        self._left_sums = sums.float()  # (N, r)
        self._fractions = torch.from_numpy(self.counts / trials).float().to(left.device)  # (N,)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.stimulus_ids)

    @property
    def device(self) -> torch.device:
        """Device of the factors."""
        return self._left.device

    def residuals(self, penalty: float) -> Tensor:
        """Return the matrix `(N, N)` that maps targets `(N, T)` to targets minus held-out predictions.

        With the hat matrix H, intercept included, and an image's rows g, the residuals of the fit without them are
        (I - H_gg)^-1 (y_g - H_g y); their mean is the residual of the prediction for the mean of the responses.

        I - H is computed from what the penalty takes away. With as many voxels as trials there is nothing else, and
        1 - H would lose all digits at small penalties.
        """
        taken = penalty / (self._values + penalty)  # (r,)
        weights, combined = self._held_out(taken)
        if not self._has_complement:
            return (combined * taken) @ self._left_sums.T
        matrix = (combined * (taken - 1)) @ self._left_sums.T - weights[:, None] * self._fractions
        matrix.diagonal().add_(weights)
        return matrix

    def prior_residuals(self, penalty: float, prior: Tensor) -> Tensor:
        """Return the held-out residuals `(N, T)` of targets that are the trials times the weights `prior` `(V, T)`.

        What a fit towards `prior` predicts beyond a fit towards zero. Such targets differ between an image's trials.
        """
        taken = penalty / (self._values + penalty)  # (r,)
        return (self._held_out(taken)[1] * (taken * self._values.sqrt())) @ (self._right.T @ prior)

    def predict(self, voxels: np.ndarray, targets: np.ndarray, penalties: np.ndarray, block_size: int) -> np.ndarray:
        """Return predictions `(m, T)` float32 for voxels `(m, V)`, one row per image.

        Args:
            voxels: means of the test images' responses.
            targets: `(N, T)` of the training images, ascending, float16 or float32.
            penalties: `(T,)`.
            block_size: targets whose coefficients are in memory at once.
        """
        centred = torch.tensor(voxels, dtype=torch.float64, device=self.device) - self._mean
        coordinates = (centred @ self._right.double()).float()  # (m, r)
        predicted = np.empty((len(voxels), targets.shape[1]), np.float32)
        for block, values in self.blocks(targets, block_size):
            penalty = torch.from_numpy(penalties[block]).to(values)  # (t,)
            gain = self._values.sqrt()[:, None] / (self._values[:, None] + penalty)  # (r, t)
            fitted = coordinates @ (gain * (self._left_sums.T @ values)) + self._fractions @ values
            predicted[:, block] = fitted.cpu().numpy()
        return predicted

    def coefficients(self, targets: Tensor, penalty: float, prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return weights `(V, T)` and intercepts `(T,)` float32 of the fit to the images' targets `(N, T)`.

        The penalty is on the difference from the weights `prior` `(V, T)`, or from zero.
        """
        gain, coordinates = self._values.sqrt() / (self._values + penalty), self._left_sums.T @ targets  # (r,), (r, T)
        if prior is not None:
            coordinates -= self._values.sqrt()[:, None] * (self._right.T @ prior)
        weights = self._right @ (gain[:, None] * coordinates)
        if prior is not None:
            weights += prior
        return weights, self._fractions @ targets - self._mean.float() @ weights

    def blocks(self, targets: np.ndarray, block_size: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield some columns at a time, float32 on the device, and where they stand."""
        for start in range(0, targets.shape[1], block_size):
            block = slice(start, min(start + block_size, targets.shape[1]))
            yield block, torch.from_numpy(np.asarray(targets[:, block], np.float32)).to(self.device)

    def _held_out(self, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Return (I - H_gg)^-T times each image's averaging weights: their sums `(N,)`, and times `left`, `(N, r)`.

        Args:
            taken: `(r,)`, what a penalty takes away along each direction.
        """
        weights = self._left.new_empty(self.num_images)
        combined = self._left.new_empty(self._left_sums.shape)
        for images, rows in self._images_by_count():
            left = self._left[rows]  # (G, c, r)
            own, count = (left * taken) @ left.mT, rows.shape[1]  # (G, c, c)
            if self._has_complement:
                own = own + torch.eye(count, device=own.device) - 1 / len(self._left) - left @ left.mT
            mean = torch.linalg.solve(own, own.new_full((len(rows), count, 1), 1 / count))
            weights[images] = mean.sum((1, 2))
            combined[images] = (mean * left).sum(1)
        return weights, combined

    def _images_by_count(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images `(G,)` with equally many trials c, and their trials `(G, c)`."""
        for count in np.unique(self.counts):
            every = np.flatnonzero(self.counts == count)
            for start in range(0, len(every), _IMAGES_PER_BLOCK):
                images = every[start : start + _IMAGES_PER_BLOCK]
                rows = self._rows[self._first[images][:, None] + np.arange(count)]
                yield torch.from_numpy(images).to(self.device), torch.from_numpy(rows).to(self.device)


def _significant(values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues that are no rounding errors, with their vectors (columns)."""
    kept = values > MIN_EIGENVALUE * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    return values[kept], vectors[:, kept]
