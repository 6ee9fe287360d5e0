"""Visual features of simulated voxels: luminance, colour opponency, oriented energy and coloured edges.

Legend: n images, F features, P retina size in pixels, G cells per side of the feature grid.
"""

from functools import cache

import numpy as np

#: Images are resized to this size, so that the voxels do not depend on the stored size.
RETINA_SIZE = 64
GRID_SIZE = 16
ORIENTATIONS = np.arange(4) * np.pi / 4
#: Tuned frequencies of the energy filters, in periods per image.
SCALES = (4.0, 8.0, 16.0)
NUM_CHANNELS = 3
NUM_COLOUR_FEATURES = NUM_CHANNELS + 2  # the channels, and the edges of the two colour channels
NUM_FEATURES = NUM_COLOUR_FEATURES + len(SCALES) * len(ORIENTATIONS)

#: Luminance, red-green and blue-yellow.
_CHANNELS = np.array([[0.30, 0.59, 0.11], [1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]], np.float32)


def visual_features(images: np.ndarray) -> np.ndarray:
    """Return feature maps `(n, F, G * G)` float32 of images `(n, 3, P, P)` float32 RGB in [0, 1].

    The features are luminance, red-green, blue-yellow, the edges of both colour channels, then the energies by scale
    and orientation. Energy is the amplitude of a complex Gabor filter, as in a phase-invariant complex cell.
    """
    assert images.shape[1:] == (3, RETINA_SIZE, RETINA_SIZE), images.shape
    opponent = np.einsum("kc,ncyx->nkyx", _CHANNELS, images)  # (n, 3, P, P)
    maps = np.empty((len(images), NUM_FEATURES, GRID_SIZE, GRID_SIZE), np.float32)
    maps[:, :3] = _to_grid(opponent)
    maps[:, 3:5] = _to_grid(_edges(opponent[:, 1:]))
    for index, image in enumerate(opponent[:, 0]):  # one at a time, so that the amplitudes fit into the cache
        maps[index, NUM_COLOUR_FEATURES:] = _to_grid(_energy(image))
    return maps.reshape(len(images), NUM_FEATURES, GRID_SIZE**2)


def grid_centres() -> np.ndarray:
    """Return the centres of the grid's cells, `(G * G, 2)` float32 (x, y) in half images, as in `scenes`."""
    axis = (np.arange(GRID_SIZE) + 0.5) * (2 / GRID_SIZE) - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def _to_grid(maps: np.ndarray) -> np.ndarray:
    """Return means over blocks of pixels, (..., P, P) -> (..., G, G)."""
    block = RETINA_SIZE // GRID_SIZE
    return maps.reshape(*maps.shape[:-2], GRID_SIZE, block, GRID_SIZE, block).mean((-3, -1))


def _edges(maps: np.ndarray) -> np.ndarray:
    """Return the norm of the gradient between neighbouring pixels."""
    down = np.diff(maps, axis=-2, append=maps[..., -1:, :])
    right = np.diff(maps, axis=-1, append=maps[..., -1:])
    return np.sqrt(down**2 + right**2)


def _energy(luminance: np.ndarray) -> np.ndarray:
    """Return amplitudes (scales * orientations, P, P) of the filter responses to (P, P)."""
    # Mirrored borders avoid that the image's frame is the strongest edge.
    pad = RETINA_SIZE // 4
    spectrum = np.fft.fft2(np.pad(luminance, pad, mode="symmetric"))
    return np.abs(np.fft.ifft2(spectrum * _filters()))[:, pad:-pad, pad:-pad]


@cache
def _filters() -> np.ndarray:
    """Return the one-sided transfer functions of the Gabor filters, (scales * orientations, 1.5 P, 1.5 P)."""
    size = RETINA_SIZE + 2 * (RETINA_SIZE // 4)
    frequency = (np.fft.fftfreq(size) * RETINA_SIZE).astype(np.float32)  # periods over the image
    y, x = np.meshgrid(frequency, frequency, indexing="ij")
    filters = []
    for scale in SCALES:
        for orientation in ORIENTATIONS:
            along = x * np.cos(orientation) + y * np.sin(orientation)
            across = y * np.cos(orientation) - x * np.sin(orientation)
            filters.append(np.exp(-0.5 * ((along - scale) ** 2 + across**2) / (0.4 * scale) ** 2))
    transfer = np.stack(filters).astype(np.float32)
    transfer[:, 0, 0] = 0  # exclude the mean luminance
    return transfer
