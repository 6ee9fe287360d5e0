"""Simulated voxels with a receptive field, tuning and a static non-linearity.

Each subject samples its own voxels from one distribution, so that subjects differ in their voxels but not in the
features that voxels respond to. Hence subjects have a common space to learn.

Legend: n images, V voxels, F visual features, G cells per side of the feature grid, M semantic features.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mindeye_pl.data.simulated.scenes import NUM_SEMANTICS
from mindeye_pl.data.simulated.visual_features import (
    NUM_CHANNELS,
    NUM_COLOUR_FEATURES,
    NUM_FEATURES,
    ORIENTATIONS,
    SCALES,
    grid_centres,
)

#: Upper limits of the receptive-field size (half images) in V1, V2 and V3; larger ones are V4. Voxels with a mostly
#: semantic drive are `higher_vis` at any size.
_AREA_LIMITS = {"V1": 0.12, "V2": 0.17, "V3": 0.24, "V4": np.inf}

#: Weight of coloured edges relative to colour, and the Beta distribution of the energies' fraction of the tuning. Both
#: keep the signal's dimension low relative to the trials of one session, as in the brain, where thousands of voxels
#: share some tens of dimensions; otherwise one hour of data could not align a new subject to the shared space.
_EDGE_WEIGHT = 0.3
_ENERGY_FRACTION_BETA = (1, 3)


@dataclass(frozen=True)
class Percepts:
    """Visual and semantic features of some images, the input of all voxels."""

    visual: np.ndarray  # (n, F, G * G) float32
    semantic: np.ndarray  # (n, M) float32

    def __len__(self) -> int:
        return len(self.semantic)


@dataclass(frozen=True)
class SimulatedBrain:
    """Voxels of one subject.

    A voxel's drive is a mixture of a visual part (its receptive field over the grid, times its tuning over the
    features) and a semantic part, each of unit variance over reference images; its response is a soft rectification
    of the drive. All arrays are float32.
    """

    fields: np.ndarray  # (G * G, V), receptive fields, columns summing to 1
    field_sizes: np.ndarray  # (V,), standard deviation of each field in half images
    visual_tuning: np.ndarray  # (F, V)
    semantic_tuning: np.ndarray  # (M, V)
    offset: np.ndarray  # (V,), added to the drive
    semantic_fraction: np.ndarray  # (V,), semantic fraction of the drive's variance
    gain: np.ndarray  # (V,), of the non-linearity
    threshold: np.ndarray  # (V,), of the non-linearity
    noise: np.ndarray  # (V,), standard deviation of the noise over that of the signal: 1 / ncsnr

    @classmethod
    def sample(
        cls, rng: np.random.Generator, num_voxels: int, reference: Percepts, *, noise_level: float, noise_spread: float
    ) -> Self:
        """Draw the voxels of a subject, scaled by some hundred reference percepts.

        Noise over signal is `noise_level` in the median voxel; its logarithm has the standard deviation `noise_spread`.
        """
        level = rng.random(num_voxels)  # level in the visual hierarchy
        field_sizes = 0.07 * 6 ** (level + 0.1 * rng.standard_normal(num_voxels))
        fields = _receptive_fields(rng, field_sizes)
        semantic_fraction = np.clip(1.6 * level - 0.75 + 0.1 * rng.standard_normal(num_voxels), 0, 0.95)
        visual_tuning = _visual_tuning(rng, num_voxels)
        # Heavy-tailed weights: each voxel is tuned to a few semantic features.
        shape = (NUM_SEMANTICS, num_voxels)
        semantic_tuning = rng.standard_normal(shape) * rng.exponential(1, shape)
        spread = reference.visual.std((0, 2), dtype=np.float64)  # (F,), to balance the features
        visual_tuning = (visual_tuning / spread[:, None]).astype(np.float32)

        visual = _visual_drive(reference, fields, visual_tuning)
        semantic = reference.semantic @ semantic_tuning
        visual_scale = np.sqrt(1 - semantic_fraction) / visual.std(0, dtype=np.float64)
        semantic_scale = np.sqrt(semantic_fraction) / semantic.std(0, dtype=np.float64)
        offset = -(
            visual.mean(0, dtype=np.float64) * visual_scale + semantic.mean(0, dtype=np.float64) * semantic_scale
        )
        drawn = {
            "fields": fields,
            "field_sizes": field_sizes,
            "visual_tuning": visual_tuning * visual_scale,
            "semantic_tuning": semantic_tuning * semantic_scale,
            "offset": offset,
            "semantic_fraction": semantic_fraction,
            "gain": np.exp(0.3 * rng.standard_normal(num_voxels)),
            "threshold": rng.normal(-0.5, 0.7, num_voxels),
            "noise": noise_level * np.exp(noise_spread * rng.standard_normal(num_voxels)),
        }
        return cls(**{name: value.astype(np.float32) for name, value in drawn.items()})

    @property
    def num_voxels(self) -> int:
        """Number of voxels, V."""
        return len(self.noise)

    def responses(self, percepts: Percepts) -> np.ndarray:
        """Return noise-free responses, `(n, V)` float32, in arbitrary units."""
        drive = _visual_drive(percepts, self.fields, self.visual_tuning)
        drive += percepts.semantic @ self.semantic_tuning
        drive += self.offset
        return np.logaddexp(0, 2 * self.gain * (drive - self.threshold)) / 2

    def regions(self) -> dict[str, np.ndarray]:
        """Return masks `(V,)` bool by name, `nsd.ROIS`: all voxels, and the areas given by field size and tuning."""
        higher = self.semantic_fraction > 0.5
        masks, below = {"nsd_general": np.ones(self.num_voxels, bool)}, 0.0
        for area, limit in _AREA_LIMITS.items():
            masks[area] = ~higher & (self.field_sizes >= below) & (self.field_sizes < limit)
            below = limit
        return {**masks, "higher_vis": higher}


def _receptive_fields(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Draw Gaussian receptive fields on the grid, (G * G, V), denser near the fovea."""
    eccentricity, angle = 0.95 * rng.random(len(sizes)) ** 0.7, rng.uniform(0, 2 * np.pi, len(sizes))
    centres = np.stack([eccentricity * np.cos(angle), eccentricity * np.sin(angle)])  # (2, V)
    squared = ((grid_centres()[:, :, None] - centres) ** 2).sum(1)  # (G * G, V)
    fields = np.exp(-0.5 * squared / sizes**2)
    return (fields / fields.sum(0)).astype(np.float32)


def _visual_tuning(rng: np.random.Generator, num_voxels: int) -> np.ndarray:
    """Draw feature weights, (F, V), for colour and luminance, and for energy near one orientation and scale."""
    colour = rng.standard_normal((NUM_COLOUR_FEATURES, num_voxels))
    colour[NUM_CHANNELS:] *= _EDGE_WEIGHT
    preferred = rng.uniform(0, np.pi, num_voxels)
    sharpness = rng.uniform(0, 2, num_voxels)
    orientation = np.exp(sharpness * (np.cos(2 * (ORIENTATIONS[:, None] - preferred)) - 1))  # (orientations, V)
    scales = np.log2(SCALES)[:, None]
    scale = np.exp(-0.5 * (scales - rng.uniform(scales.min(), scales.max(), num_voxels)) ** 2)  # (scales, V)
    energy = (scale[:, None] * orientation).reshape(-1, num_voxels)
    fraction = rng.beta(*_ENERGY_FRACTION_BETA, num_voxels)
    tuning = np.concatenate(
        [np.sqrt(1 - fraction) * colour / np.linalg.norm(colour, axis=0), np.sqrt(fraction) * energy / energy.sum(0)]
    )
    assert tuning.shape == (NUM_FEATURES, num_voxels)
    return tuning


def _visual_drive(percepts: Percepts, fields: np.ndarray, tuning: np.ndarray) -> np.ndarray:
    """Return the weighted sum of features under each receptive field, (n, V) float32."""
    drive = np.zeros((len(percepts), fields.shape[1]), np.float32)
    for feature in range(NUM_FEATURES):  # one at a time, which needs 1 / F of the memory
        drive += (percepts.visual[:, feature] @ fields) * tuning[feature].astype(np.float32)
    return drive
