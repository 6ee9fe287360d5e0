"""Features of images for encoding models that need no weights of their own.

Legend: B images, P side of the retina in pixels, K filters, G cells per side, E width of an embedding.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Preferred frequencies of the Gabor filters in periods per image, and number of orientations.
_FREQUENCIES = (3.0, 6.0, 12.0, 24.0)
_NUM_ORIENTATIONS = 6
#: P: images are resized to it. G: energies are averaged over cells.
_RETINA, _CELLS = 64, 8
#: Standard deviation of a filter's transfer function over its preferred frequency: about one octave at half height.
_BANDWIDTH = 0.35
_LUMINANCE = (0.30, 0.59, 0.11)

#: Inverse squared width of the kernel that the Fourier features approximate.
_PRECISION = 3.0


def small_images(images: Tensor) -> Tensor:
    """Downsample images, the simplest features: `(B, 3, H, W)` in [0, 1] -> `(B, 3, 16, 16)`."""
    return F.interpolate(images.float(), size=(16, 16), mode="bilinear", antialias=True)


def gabor_energies(images: Tensor) -> Tensor:
    """Return the contrast by place, frequency and orientation, `(B, K, G, G)` float32, of images `(B, 3, H, W)`.

    These are the amplitudes of quadrature pairs of Gabor filters on the luminance, averaged over cells. A complex cell
    answers in this way, whatever the phase (Adelson and Bergen 1985, JOSA A 2:284), and they predict voxels of V1 to V3
    (Kay et al. 2008, Nature 452:352). Each is multiplied by its frequency, because the amplitudes of natural images
    fall with frequency.
    """
    resized = F.interpolate(images.float(), size=(_RETINA, _RETINA), mode="bilinear", antialias=True)
    luminance = torch.einsum("c,bcyx->byx", torch.tensor(_LUMINANCE, device=images.device), resized)
    margin = _RETINA // 4  # mirrored borders: else the frame would be the strongest edge
    padded = F.pad(luminance.unsqueeze(1), (margin,) * 4, mode="reflect")  # (B, 1, 1.5 P, 1.5 P)
    responses = torch.fft.ifft2(torch.fft.fft2(padded) * _transfer(_RETINA + 2 * margin).to(padded.device))
    return F.adaptive_avg_pool2d(responses.abs()[..., margin:-margin, margin:-margin], _CELLS)


@cache
def _transfer(size: int) -> Tensor:
    """Return the one-sided transfer functions of the Gabor filters, `(K, size, size)`."""
    frequency = torch.fft.fftfreq(size) * _RETINA  # periods per image
    y, x = torch.meshgrid(frequency, frequency, indexing="ij")
    filters = []
    for preferred in _FREQUENCIES:
        for angle in torch.arange(_NUM_ORIENTATIONS) * (torch.pi / _NUM_ORIENTATIONS):
            squared = (x - preferred * angle.cos()) ** 2 + (y - preferred * angle.sin()) ** 2
            filters.append(preferred * torch.exp(-0.5 * squared / (_BANDWIDTH * preferred) ** 2))
    transfer = torch.stack(filters)
    transfer[:, 0, 0] = 0  # the mean luminance is no contrast
    return transfer


def fourier_features(embeddings: Tensor, count: int = 1024) -> Tensor:
    """Return random Fourier features of normalised embeddings, `(B, E)` -> `(B, count)` float32 on the CPU.

    Their inner products approximate a Gaussian kernel, exp(-3/2 ||x - y||^2) (Rahimi and Recht 2007, NeurIPS), so that
    a linear model on them is a non-linear one of the embedding. They are a fixed function: the same draws every time.
    """
    generator = torch.Generator().manual_seed(0)
    frequencies = torch.randn(embeddings.shape[1], count, generator=generator) * _PRECISION**0.5
    phases = 2 * torch.pi * torch.rand(count, generator=generator)
    unit = F.normalize(embeddings.float().cpu(), dim=1)
    return torch.cos(unit @ frequencies + phases) * (2 / count) ** 0.5
