from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from safetensors.torch import load_file
from skimage.metrics import structural_similarity
from torch import Tensor

from mindeye_pl.metrics import pixels
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image

GOLDEN = Path(__file__).parents[1] / "golden" / "objective" / "objective_and_metrics.safetensors"
FORMS = ("published", "torchmetrics")


def pixcorr(first: Tensor, second: Tensor, **options: Any) -> Tensor:
    return pixcorr_per_image(first, second, **options).mean()


def ssim(first: Tensor, second: Tensor, **options: Any) -> Tensor:
    return ssim_per_image(first, second, **options).mean()


def pairs(num: int = 5, side: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num, 3, side, side, generator=generator)
    return (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(0, 1), images


def ssim_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the formula on one channel `(H, W)`, over the windows inside the image."""
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(axis, axis) / axis.sum() ** 2
    x, y = (sliding_window_view(some.astype(np.float64), (11, 11)) for some in (first, second))
    mean_x, mean_y = ((some * weights).sum((2, 3)) for some in (x, y))
    variance_x, variance_y = ((some**2 * weights).sum((2, 3)) - m**2 for some, m in ((x, mean_x), (y, mean_y)))
    covariance = (x * y * weights).sum((2, 3)) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def test_pixcorr_equals_numpy() -> None:
    first, second = pairs()
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(pixcorr_per_image(first, second, size=None), expected, atol=1e-6)
    assert pixcorr(first, second, size=None).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_published_ssim_equals_the_formula() -> None:
    first, second = pairs()
    grey = [np.tensordot([0.2125, 0.7154, 0.0721], some.numpy(), (0, 1)) for some in (first, second)]
    expected = [ssim_by_hand(a, b) for a, b in zip(*grey, strict=True)]
    np.testing.assert_allclose(ssim_per_image(first, second, size=None), expected, atol=1e-5)


def test_torchmetrics_ssim_equals_scikit_image_with_mirrored_borders() -> None:
    first, second = pairs()
    found = ssim_per_image(first, second, size=None, form="torchmetrics")
    for value, *pair in zip(found.tolist(), first.numpy(), second.numpy(), strict=True):
        a, b = (np.pad(some, ((0, 0), (5, 5), (5, 5)), mode="reflect") for some in pair)
        same = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=0
        )
        assert value == pytest.approx(same, abs=1e-5)
        assert value == pytest.approx(np.mean([ssim_by_hand(x, y) for x, y in zip(a, b, strict=True)]), abs=1e-5)
    assert ssim(first, second, size=None) != ssim(first, second, size=None, form="torchmetrics")


def test_published_form_equals_the_recording() -> None:
    recorded = load_file(GOLDEN)
    both = recorded["recons"], recorded["images"]
    assert ssim(*both).item() == pytest.approx(recorded["ssim"].item(), abs=1e-6)
    assert pixcorr(*both).item() == pytest.approx(recorded["pixcorr"].item(), abs=1e-6)
    side = both[0].shape[-1] // 3
    for metric in (pixcorr, ssim):
        assert metric(*both, size=side, antialias=True) != metric(*both, size=side, antialias=False)


def test_antialiased_resizing_equals_pillow() -> None:
    first, second = pairs(2, 64)
    resized = [
        torch.stack(
            [
                torch.stack(
                    [
                        torch.from_numpy(
                            np.array(Image.fromarray(channel.numpy()).resize((16, 16), Image.Resampling.BILINEAR))
                        )
                        for channel in image
                    ]
                )
                for image in some
            ]
        )
        for some in (first, second)
    ]
    found = pixcorr_per_image(first, second, size=16, antialias=True)
    np.testing.assert_allclose(found, pixcorr_per_image(*resized, size=None), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_pixcorr_and_ssim_of_identical_images_are_one(form: str) -> None:
    first, second = pairs()
    assert ssim(second, second, size=None, form=form).item() == pytest.approx(1)
    assert pixcorr(second, second, size=None).item() == pytest.approx(1)
    assert ssim(first, second, size=None, form=form) < 1
    assert (pixcorr_per_image(torch.full_like(first, 0.5), second, size=None) == 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("form", FORMS)
def test_batch_size_changes_nothing(batch_size: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pairs()
    whole = pixcorr_per_image(first, second, size=32), ssim_per_image(first, second, size=32, form=form)
    monkeypatch.setattr(pixels, "_BATCH_SIZE", batch_size)
    order = torch.tensor([3, 1, 4, 0, 2])
    parts = (
        pixcorr_per_image(first[order], second[order], size=32),
        ssim_per_image(first[order], second[order], size=32, form=form),
    )
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one[order], other, atol=1e-6)


def test_pixcorr_of_shuffled_images_is_zero() -> None:
    first, second = pairs(60, 12)
    each = pixcorr_per_image(first.roll(1, 0), second, size=None)
    assert abs(each.mean()) < 3.5 * each.std() / np.sqrt(60)


def test_half_precision_images_score_like_single() -> None:
    first, second = (some.half() for some in pairs())
    for metric in (pixcorr, ssim):
        single = metric(first.float(), second.float(), size=None)
        assert metric(first, second, size=None).item() == pytest.approx(single.item(), abs=1e-6)
