"""Files of a simulated subject's responses: noise-free responses per image, and betas per trial.

Both are written in blocks, so that at most one session's betas are in memory.

Legend: N images that the subject saw, n of one block, T trials of the subject, t of one session, V voxels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.layout.hdf5 import open_hdf5, read_rows
from mindeye_pl.data.simulated.brain import Percepts, SimulatedBrain

#: Images per block. Changing it changes the data, because matrix products round depending on the block size.
_BLOCK = 256
_NUM_PATTERNS = 30
#: Fraction of the patterns' variance in the directions of the signal.
_OVERLAP = 0.5


@dataclass(frozen=True)
class TrialNoise:
    """Noise that is added to the response on each trial."""

    ratio: np.ndarray  # (V,) float32, standard deviation of the noise over that of the signal: 1 / ncsnr
    patterns: np.ndarray  # (K, V) float32, columns of unit length: noise patterns shared by the voxels
    correlated: float  # fraction of the noise variance in the patterns
    drift: float  # standard deviation, over sessions, of the offset and of the logarithm of the gain

    @classmethod
    def sample(
        cls, rng: np.random.Generator, ratio: np.ndarray, reference: np.ndarray, *, correlated: float, drift: float
    ) -> "TrialNoise":
        """Draw the patterns of a subject as mixtures of its responses `(R, V)` to reference images.

        Shared noise thus overlaps with the signal, as if the subject also thought of other images, and averaging over
        voxels does not remove it.
        """
        signal = (reference - reference.mean(0)) / reference.std(0)
        inside = rng.standard_normal((_NUM_PATTERNS, len(signal)), np.float32) @ signal
        outside = rng.standard_normal(inside.shape, np.float32)
        inside, outside = (patterns / np.linalg.norm(patterns, axis=0) for patterns in (inside, outside))
        patterns = np.float32(np.sqrt(_OVERLAP)) * inside + np.float32(np.sqrt(1 - _OVERLAP)) * outside
        return cls(ratio, patterns / np.linalg.norm(patterns, axis=0), correlated, drift)

    @property
    def signal_scale(self) -> np.ndarray:
        """Standard deviation `(V,)` of the signal if signal and noise together have variance 1."""
        return 1 / np.sqrt(1 + self.ratio**2)

    def session(self, rng: np.random.Generator, signal: np.ndarray) -> np.ndarray:
        """Return a session's betas before z-scoring, `(t, V)` float32, from its signal, scaled by `signal_scale`."""
        gain = np.exp(self.drift * rng.standard_normal(len(self.ratio), np.float32))
        offset = self.drift * rng.standard_normal(len(self.ratio), np.float32)
        noise = rng.standard_normal(signal.shape, np.float32)
        noise *= np.float32(np.sqrt(1 - self.correlated))
        common = rng.standard_normal((len(signal), len(self.patterns)), np.float32)
        noise += np.float32(np.sqrt(self.correlated)) * (common @ self.patterns)
        noise *= self.ratio * self.signal_scale
        noise += signal
        noise *= gain
        noise += offset
        return noise


def write_noise_free(
    path: Path,
    brain: SimulatedBrain,
    scale: np.ndarray,
    stimulus_ids: np.ndarray,
    perceive: Callable[[np.ndarray], Percepts],
) -> None:
    """Write the noise-free responses to the images that a subject saw.

    The hdf5 file has the datasets `stimulus_ids` (N,) int64, ascending, and `responses` (N, V) float32. Up to sampling
    error, the units are those of the betas: over the N images, a voxel's response has mean 0 and standard deviation
    `scale` `(V,)`, as in a session of infinitely many trials. `perceive` maps stimulus ids to percepts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(stimulus_ids), _BLOCK)]
    total, squares = np.zeros(brain.num_voxels), np.zeros(brain.num_voxels)
    with open_hdf5(path, "w") as file:
        file["stimulus_ids"] = stimulus_ids
        responses = file.create_dataset("responses", (len(stimulus_ids), brain.num_voxels), np.float32)
        for block in blocks:
            raw = brain.responses(perceive(stimulus_ids[block]))
            total += raw.sum(0, dtype=np.float64)
            squares += np.square(raw, dtype=np.float64).sum(0)
            responses[block] = raw
        mean = total / len(stimulus_ids)
        std = np.sqrt(squares / len(stimulus_ids) - mean**2)
        for block in blocks:
            responses[block] = (responses[block] - mean) * (scale / std)


def write_betas(
    path: Path, noise_free: Path, design: Design, noise: TrialNoise, rngs: Sequence[np.random.Generator]
) -> None:
    """Write the dataset `betas` (T, V) float32, z-scored per session and voxel (MindEye2, spec section 1.6).

    The responses come from the file of `write_noise_free`; each session has its own generator.
    """
    with open_hdf5(noise_free) as source, open_hdf5(path, "w") as file:
        seen, responses = source["stimulus_ids"][:], source["responses"]
        betas = file.create_dataset("betas", (len(design.behaviour), responses.shape[1]), np.float32)
        for session, rng in enumerate(rngs):
            trials = design.session_rows(session)
            signal = read_rows(responses, np.searchsorted(seen, design.stimulus_ids[trials]))  # (t, V)
            betas[trials] = zscore(noise.session(rng, signal), fit_on=~design.is_shared[trials])


def zscore(betas: np.ndarray, fit_on: np.ndarray) -> np.ndarray:
    """Z-score betas `(t, V)` per voxel by mean and population standard deviation of the trials `fit_on`, to float32.

    The trials `(t,)` bool are those without a shared image, so that no test trial leaks into training.
    """
    fitted = betas[fit_on]
    mean, std = fitted.mean(0, dtype=np.float64), fitted.std(0, dtype=np.float64)
    return ((betas - mean.astype(np.float32)) / std.astype(np.float32)).astype(np.float32)
