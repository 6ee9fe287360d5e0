"""Simulated voxels with a receptive field, tuning and a static non-linearity.

Each subject samples its own voxels from one distribution, so that subjects differ in their voxels but not in the
features that voxels respond to. Hence subjects have a common space to learn.

Legend: n images, V voxels, F visual features, G cells per side of the feature grid, M dimensions of the identity.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mindeye_pl.data.simulated.identity import NUM_IDENTITY
from mindeye_pl.data.simulated.visual_features import (
    NUM_CHANNELS,
    NUM_COLOUR_FEATURES,
    NUM_FEATURES,
    ORIENTATIONS,
    SCALES,
    grid_centres,
)

#: Upper limits of the receptive-field size (half images) in V1, V2 and V3; larger ones are V4. Voxels with a drive of
#: mostly identity are `higher_vis` at any size.
_AREA_LIMITS = {"V1": 0.262, "V2": 0.28, "V3": 0.3, "V4": np.inf}

#: Limits of the fraction of a voxel's visual drive that is linear in colour and luminance; the rest ignores phase.
_LINEAR_FRACTION = (0.0, 0.1)
#: Weight of coloured edges relative to oriented energy.
_EDGE_WEIGHT = 0.5
#: Receptive-field size at the lowest level in half images, and the ratio of the size at the highest level to it. Edges
#: under smaller fields would be a linear code of the image.
_SMALLEST_FIELD, _FIELD_RATIO = 0.25, 2.0
#: Receptive fields end where they are below this fraction of their maximum.
_MIN_FIELD = 1e-2
#: The identity's fraction of a voxel's drive rises with its level in the hierarchy, from this level with this slope.
_IDENTITY_LEVEL, _IDENTITY_SLOPE = 0.05, 1.7


@dataclass(frozen=True)
class Percepts:
    """Visual features of some images and the identity of their objects, the input of all voxels."""

    visual: np.ndarray  # (n, F, G * G) float32
    identity: np.ndarray  # (n, M) float32

    def __len__(self) -> int:
        return len(self.identity)


@dataclass(frozen=True)
class SimulatedBrain:
    """Voxels of one subject.

    A voxel's drive is a mixture of three parts, each of unit variance over reference images: colour and luminance under
    its receptive field, which are linear in the pixels; edges and oriented energy there, which are invariant to phase;
    and the identity of the objects anywhere. Its response is a soft rectification of the drive. All arrays are float32.
    """

    fields: np.ndarray  # (G * G, V), receptive fields, columns summing to 1
    field_sizes: np.ndarray  # (V,), standard deviation of each field in half images
    visual_tuning: np.ndarray  # (F, V)
    identity_tuning: np.ndarray  # (M, V)
    offset: np.ndarray  # (V,), added to the drive
    identity_fraction: np.ndarray  # (V,), the identity's fraction of the drive's variance
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
        field_sizes = _SMALLEST_FIELD * _FIELD_RATIO ** (level + 0.1 * rng.standard_normal(num_voxels))
        fields = _receptive_fields(rng, field_sizes)
        identity_fraction = np.clip(
            _IDENTITY_SLOPE * (level - _IDENTITY_LEVEL) + 0.1 * rng.standard_normal(num_voxels), 0, 0.95
        )
        spread = reference.visual.std((0, 2), dtype=np.float64)  # (F,), to balance the features
        visual_tuning = (_visual_tuning(rng, num_voxels) / spread[:, None]).astype(np.float32)
        linear_fraction = (1 - identity_fraction) * rng.uniform(*_LINEAR_FRACTION, num_voxels)
        fractions = np.stack([linear_fraction, 1 - identity_fraction - linear_fraction])
        offset = np.zeros(num_voxels)
        for fraction, features in zip(fractions, (slice(NUM_CHANNELS), slice(NUM_CHANNELS, NUM_FEATURES)), strict=True):
            drive = _visual_drive(reference, fields, visual_tuning, features)
            scale = np.sqrt(fraction) / drive.std(0, dtype=np.float64)
            visual_tuning[features] *= scale.astype(np.float32)
            offset -= drive.mean(0, dtype=np.float64) * scale
        # Heavy-tailed weights: each voxel is tuned to a few dimensions.
        shape = (NUM_IDENTITY, num_voxels)
        identity_tuning = rng.standard_normal(shape) * rng.exponential(1, shape)
        drive = reference.identity @ identity_tuning
        identity_tuning *= np.sqrt(identity_fraction) / drive.std(0)
        offset -= reference.identity.mean(0) @ identity_tuning
        drawn = {
            "fields": fields,
            "field_sizes": field_sizes,
            "visual_tuning": visual_tuning,
            "identity_tuning": identity_tuning,
            "offset": offset,
            "identity_fraction": identity_fraction,
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
        drive = _visual_drive(percepts, self.fields, self.visual_tuning, slice(NUM_FEATURES))
        drive += percepts.identity @ self.identity_tuning
        drive += self.offset
        return np.logaddexp(0, 2 * self.gain * (drive - self.threshold)) / 2

    def regions(self) -> dict[str, np.ndarray]:
        """Return masks `(V,)` bool by name, `nsd.ROIS`: all voxels, and the areas given by field size and tuning."""
        higher = self.identity_fraction > 0.5
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
    fields[fields < _MIN_FIELD] = 0
    return (fields / fields.sum(0)).astype(np.float32)


def _visual_tuning(rng: np.random.Generator, num_voxels: int) -> np.ndarray:
    """Draw feature weights, (F, V), for colour, luminance, their edges, and energy near one orientation and scale."""
    colour = rng.standard_normal((NUM_COLOUR_FEATURES, num_voxels))
    colour[NUM_CHANNELS:] = _EDGE_WEIGHT * np.abs(colour[NUM_CHANNELS:])
    preferred = rng.uniform(0, np.pi, num_voxels)
    sharpness = rng.uniform(0, 2, num_voxels)
    orientation = np.exp(sharpness * (np.cos(2 * (ORIENTATIONS[:, None] - preferred)) - 1))  # (orientations, V)
    scales = np.log2(SCALES)[:, None]
    scale = np.exp(-0.5 * (scales - rng.uniform(scales.min(), scales.max(), num_voxels)) ** 2)  # (scales, V)
    energy = (scale[:, None] * orientation).reshape(-1, num_voxels)
    tuning = np.concatenate([colour, energy / np.linalg.norm(energy, axis=0)])
    assert tuning.shape == (NUM_FEATURES, num_voxels)
    return tuning


def _visual_drive(percepts: Percepts, fields: np.ndarray, tuning: np.ndarray, features: slice) -> np.ndarray:
    """Return the weighted sum of some features under each receptive field, (n, V) float32."""
    drive = np.zeros((len(percepts), fields.shape[1]), np.float32)
    for feature in range(NUM_FEATURES)[features]:  # one at a time, which needs 1 / F of the memory
        drive += (percepts.visual[:, feature] @ fields) * tuning[feature].astype(np.float32)
    return drive
