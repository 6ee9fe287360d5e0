"""What simulated voxels see of an image: luminance, colour opponency, oriented energy and coloured edges.

Legend: n images, F kinds of features, P pixels a side of the retina, G cells a side of the feature grid.
"""

from functools import cache

import numpy as np

#: Images are seen at this size, whatever their size on disk, so that a brain does not depend on it.
RETINA_SIZE = 64
GRID_SIZE = 16
ORIENTATIONS = np.arange(4) * np.pi / 4
#: Periods over the image to which the energy filters are tuned.
SCALES = (4.0, 8.0, 16.0)
NUM_CHANNELS = 3
NUM_COLOUR_FEATURES = NUM_CHANNELS + 2  # the channels, and the edges of the coloured ones
NUM_FEATURES = NUM_COLOUR_FEATURES + len(SCALES) * len(ORIENTATIONS)

_LUMINANCE = np.array([0.30, 0.59, 0.11], np.float32)
_RED_GREEN = np.array([1.0, -1.0, 0.0], np.float32)
_BLUE_YELLOW = np.array([-0.5, -0.5, 1.0], np.float32)


def visual_features(images: np.ndarray) -> np.ndarray:
    """Feature maps of images.

    The order of the features is luminance, red against green, blue against yellow, the edges of both colour channels,
    then the energies, scale by scale and orientation by orientation. Energy is the amplitude of a complex Gabor filter,
    as a phase-invariant complex cell has it.

    Args:
        images: `(n, 3, P, P)` float32 RGB in [0, 1], P = `RETINA_SIZE`.

    Returns:
        `(n, F, G * G)` float32.
    """
    assert images.shape[1:] == (3, RETINA_SIZE, RETINA_SIZE), images.shape
    channels = np.stack([_LUMINANCE, _RED_GREEN, _BLUE_YELLOW])
    opponent = np.einsum("kc,ncyx->nkyx", channels, images)  # (n, 3, P, P)
    maps = np.empty((len(images), NUM_FEATURES, GRID_SIZE, GRID_SIZE), np.float32)
    maps[:, :3] = _to_grid(opponent)
    maps[:, 3:5] = _to_grid(_edges(opponent[:, 1:]))
    for index, image in enumerate(opponent[:, 0]):  # one at a time: the amplitudes of all would not fit the cache
        maps[index, NUM_COLOUR_FEATURES:] = _to_grid(_energy(image))
    return maps.reshape(len(images), NUM_FEATURES, GRID_SIZE**2)


def grid_places() -> np.ndarray:
    """Centres of the grid's cells, `(G * G, 2)` float32 (x, y) in half images, as in `scenes`."""
    axis = (np.arange(GRID_SIZE) + 0.5) * (2 / GRID_SIZE) - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def _to_grid(maps: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels, (..., P, P) to (..., G, G)."""
    block = RETINA_SIZE // GRID_SIZE
    return maps.reshape(*maps.shape[:-2], GRID_SIZE, block, GRID_SIZE, block).mean((-3, -1))


def _edges(maps: np.ndarray) -> np.ndarray:
    """Size of the gradient from one pixel to its neighbours."""
    down = np.diff(maps, axis=-2, append=maps[..., -1:, :])
    right = np.diff(maps, axis=-1, append=maps[..., -1:])
    return np.sqrt(down**2 + right**2)


def _energy(luminance: np.ndarray) -> np.ndarray:
    """Amplitudes (scales * orientations, P, P) of the filters' responses to (P, P)."""
    # The border is mirrored, else the image's frame would be the strongest edge of all.
    pad = RETINA_SIZE // 4
    spectrum = np.fft.fft2(np.pad(luminance, pad, mode="symmetric"))
    return np.abs(np.fft.ifft2(spectrum * _filters()))[:, pad:-pad, pad:-pad]


@cache
def _filters() -> np.ndarray:
    """Transfer functions of the Gabor filters, (scales * orientations, 1.5 P, 1.5 P), one-sided."""
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
    transfer[:, 0, 0] = 0  # the mean luminance is no energy
    return transfer
