"""Image features of the ridge encoders.

Legend: n images, S tokens, D token width, F features.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.metrics.image_features import fourier_features, gabor_energies, small_images
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.steps.inputs.frozen_models import FrozenModel

#: Tokens are averaged over cells of a grid of so many rows and columns: bigG's would be half a million features.
_CELLS = 4
#: Energies vary about a tenth, tokens about 1.
_ENERGY_WEIGHT = 3.0
_BATCH_SIZE = 64


def features_of_images(frozen: FrozenModel, stimuli: Stimuli, ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the features `(b, F)` float32 of images `(n,)`, some at a time, in their order."""
    features_of = encoder_features(frozen)
    for start in range(0, len(ids), _BATCH_SIZE):
        yield features_of(torch.from_numpy(stimuli.read(ids[start : start + _BATCH_SIZE])).float()).numpy()


def encoder_features(frozen: FrozenModel) -> Callable[[Tensor], Tensor]:
    """Return the function from images `(n, 3, H, W)` in [0, 1] to features `(n, F)` float32 on the CPU."""
    embedder: CLIPImageEmbedder = frozen.load().to(frozen.device)
    return partial(image_features, embedder)


@torch.inference_mode()
def image_features(embedder: CLIPImageEmbedder, images: Tensor) -> Tensor:
    """Return the features `(n, F)` float32 of images `(n, 3, H, W)` in [0, 1], on the CPU.

    Features are means of tokens over a grid of cells, the image shrunk, its contrast by place, frequency and
    orientation, and a non-linear function of the whole image's embedding.
    """
    on_device = images.to(next(embedder.parameters()).device)
    tokens, pooled = embedder.with_pooled(on_device)  # (n, S, D), (n, E)
    side = isqrt(tokens.shape[1])
    grid = tokens[:, -(side**2) :].float().mT.unflatten(2, (side, side))  # (n, D, rows, columns), without a class token
    groups = (
        F.adaptive_avg_pool2d(grid, min(_CELLS, side)).flatten(1).cpu(),
        small_images(images).flatten(1) - 0.5,
        _ENERGY_WEIGHT * gabor_energies(images).flatten(1),
    )
    # Means, not sums: a feature counts by what it varies, and the groups differ in number and in unit.
    scaled = [group / group.shape[1] ** 0.5 for group in groups]
    return torch.cat([*scaled, fourier_features(pooled)], dim=1)
