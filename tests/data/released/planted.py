"""A miniature world with a known answer: responses are a linear function of the shown image, and noise."""

from dataclasses import dataclass

import numpy as np

SIDE = 32


def images(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Return images of 4 x 4 coloured squares, `(count, side, side, 3)` uint8."""
    squares = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return squares.repeat(side // 4, 1).repeat(side // 4, 2)


@dataclass(frozen=True)
class Brain:
    """Voxels of one subject, each with random weights of the 48 squares' colours."""

    num_voxels: int
    seed: int
    noise: float = 0.3

    def responses(self, shown: np.ndarray) -> np.ndarray:
        """Return the responses `(T, V)` float32, about 0 to 4 percent, to images `(T, side, side, 3)`."""
        weights = np.random.default_rng(self.seed).normal(size=(48, self.num_voxels))
        step = shown.shape[1] // 4
        colours = shown[:, step // 2 :: step, step // 2 :: step].reshape(len(shown), 48) / 255 - 0.5
        noise = np.random.default_rng(self.seed + 1).normal(size=(len(shown), self.num_voxels))
        clean = colours @ weights
        return (2 + clean / clean.std() + self.noise * noise).astype(np.float32)


def within_session(betas: np.ndarray) -> np.ndarray:
    """Return z-scores over rows in float64, zero for a constant column."""
    betas = betas.astype(np.float64)
    std = betas.std(0)
    return (betas - betas.mean(0)) / np.where(std == 0, np.inf, std)


def agreement(betas: np.ndarray, brain: Brain, shown: np.ndarray) -> float:
    """Return the mean correlation over voxels with the planted responses to the images."""
    planted, found = within_session(brain.responses(shown)), within_session(betas)
    return float((planted * found).mean())
