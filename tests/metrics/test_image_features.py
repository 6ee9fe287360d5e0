"""Features of images for encoding models: their properties, and scikit-image's Gabor filters."""

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.filters import gabor_kernel

from mindeye_pl.metrics.image_features import fourier_features, gabor_energies, small_images


def test_small_images_are_means_of_blocks() -> None:
    images = torch.rand(10, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = small_images(images).flatten(1).numpy()
    assert features.shape == (10, 3 * 16 * 16)
    blocks = images.unflatten(3, (16, 4)).unflatten(2, (16, 4)).mean((3, 5))
    constant = small_images(torch.full((1, 3, 64, 64), 0.3))
    torch.testing.assert_close(constant, torch.full((1, 3, 16, 16), 0.3))
    correlation = np.corrcoef(features.ravel(), blocks.flatten().numpy())[0, 1]
    assert correlation > 0.8


def grating(frequency: float, angle: float, phase: float = 0.0) -> torch.Tensor:
    """Return a grey grating, `(1, 3, 64, 64)`, with `frequency` periods per image."""
    axis = (torch.arange(64) + 0.5) / 64
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    wave = torch.cos(2 * torch.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return (0.5 + 0.4 * wave).expand(1, 3, 64, 64)


@pytest.mark.parametrize(("index", "frequency"), enumerate((3.0, 6.0, 12.0, 24.0)))
@pytest.mark.parametrize("orientation", range(6))
def test_gabor_energies_are_tuned_and_ignore_phase(index: int, frequency: float, orientation: int) -> None:
    angle = orientation * np.pi / 6
    seen = gabor_energies(grating(frequency, angle))[0, :, 2:6, 2:6].mean((1, 2)).unflatten(0, (4, 6))
    assert divmod(int(seen.argmax()), 6) == (index, orientation)
    shifted = gabor_energies(grating(frequency, angle, phase=2.0))[0, :, 2:6, 2:6].mean((1, 2)).unflatten(0, (4, 6))
    torch.testing.assert_close(shifted[index, orientation], seen[index, orientation], rtol=0.03, atol=0)


def test_gabor_energies_are_those_of_scikit_image() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = gabor_energies(image)[0].unflatten(0, (4, 6))  # (frequencies, orientations, 8, 8)
    luminance = np.einsum("c,cyx->yx", (0.30, 0.59, 0.11), image[0].numpy())
    padded = np.pad(luminance - luminance.mean(), 64, mode="reflect")
    for index, frequency in ((1, 6.0), (2, 12.0)):  # the highest one has no samples of its upper flank
        width = 64 / (2 * np.pi * 0.35 * frequency)  # pixels
        for orientation in (0, 2):
            how = {"theta": orientation * np.pi / 6, "sigma_x": width, "sigma_y": width, "n_stds": 4}
            response = fftconvolve(padded, gabor_kernel(frequency / 64, **how), mode="same")
            energy = frequency * np.abs(response)[64:-64, 64:-64].reshape(8, 8, 8, 8).mean((1, 3))
            np.testing.assert_allclose(seen[index, orientation, 2:6, 2:6], energy[2:6, 2:6], rtol=0.02)


def test_gabor_energies_ignore_luminance_and_know_the_place() -> None:
    torch.testing.assert_close(
        gabor_energies(torch.full((1, 3, 64, 64), 0.3)), torch.zeros(1, 24, 8, 8), atol=1e-5, rtol=0
    )
    image = torch.full((1, 3, 64, 64), 0.5)
    image[..., 40:48, 8:16] = 1.0  # cell (5, 1)
    assert gabor_energies(image)[0].sum(0).argmax() == 5 * 8 + 1


def test_fourier_features_approximate_a_gaussian_kernel() -> None:
    embeddings = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    kernel = torch.exp(-1.5 * torch.cdist(unit, unit) ** 2)
    features = fourier_features(embeddings, 20_000)
    torch.testing.assert_close(features @ features.T, kernel, atol=0.03, rtol=0)
    torch.testing.assert_close(fourier_features(3 * embeddings), fourier_features(embeddings), msg="a fixed function")
