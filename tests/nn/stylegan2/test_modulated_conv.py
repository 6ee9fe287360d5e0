"""Modulated convolution against a loop over the samples, its gradients too."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.nn.stylegan2.maps import TAPS
from mindeye_pl.nn.stylegan2.modulated_conv import ModulatedConv2d, modulated_conv2d

CASES = [(3, True, False), (3, True, True), (3, False, False), (3, False, True), (1, False, False), (1, True, False)]


def sample_by_sample(features: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """Kernel by kernel as the paper writes it, with zeros written between the samples."""
    made, taps = [], torch.tensor(TAPS)
    for sample, scales in zip(features, style, strict=True):
        kernels = []
        for kernel in weight:
            scaled = torch.stack([scale * part for scale, part in zip(scales, kernel, strict=True)])
            kernels.append(scaled / (scaled**2).sum().add(1e-8).sqrt() if demodulate else scaled)
        if up:
            channels, height, width = sample.shape
            spread = torch.zeros(channels, 2 * height - 1, 2 * width - 1)
            spread[:, ::2, ::2] = sample
            maps = F.conv2d(F.pad(spread, (2, 2, 2, 2))[None], torch.stack(kernels))
            filtered = F.conv2d(F.pad(maps, (1, 1, 1, 1)).transpose(0, 1), 4 * torch.outer(taps, taps)[None, None])
            made.append(filtered[:, 0])
        else:
            made.append(F.conv2d(sample[None], torch.stack(kernels), padding=weight.shape[-1] // 2)[0])
    return torch.stack(made)


def arguments(kernel_size: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    features, style = torch.randn(3, 4, 5, 6), 1 + torch.randn(3, 4)
    return (
        features.requires_grad_(),
        torch.randn(2, 4, kernel_size, kernel_size).requires_grad_(),
        style.requires_grad_(),
    )


def derivatives(convolve: Callable[..., Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """First ones, and those of the length of the style's, as path length regularisation takes them."""
    made = convolve(*given)
    weights = torch.linspace(-1, 1, made.numel()).view_as(made)
    first = torch.autograd.grad((weights * made.sin()).sum(), given, create_graph=True)
    second = torch.autograd.grad(first[2].square().sum(), given)
    return [*first, *second]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("kernel_size", "demodulate", "up"), CASES)
def test_values_and_gradients(kernel_size: int, demodulate: bool, up: bool, fused: bool) -> None:
    given = arguments(kernel_size)

    def ours(*of: Tensor) -> Tensor:
        return modulated_conv2d(*of, demodulate=demodulate, up=up, fused=fused)

    def naive(*of: Tensor) -> Tensor:
        return sample_by_sample(*of, demodulate, up)

    made = ours(*given)
    assert made.shape == (3, 2, *(side * (2 if up else 1) for side in (5, 6)))
    torch.testing.assert_close(made, naive(*given), rtol=1e-4, atol=1e-5)
    for seen, wanted in zip(derivatives(ours, given), derivatives(naive, given), strict=True):
        torch.testing.assert_close(seen, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_demodulation_ignores_the_norm_of_a_style_and_keeps_the_variance(fused: bool) -> None:
    torch.manual_seed(0)
    conv = ModulatedConv2d(64, 32, 3, fused=fused)
    features, style = torch.randn(2, 64, 16, 16), 1 + 0.3 * torch.randn(2, 64)
    maps = conv(features, style)
    torch.testing.assert_close(conv(features, 50 * style), maps, rtol=1e-4, atol=1e-4)
    assert maps[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_holds_large_styles(dtype: torch.dtype, fused: bool) -> None:
    features, weight, style = arguments(3)
    style = 3e4 * style
    exact = modulated_conv2d(features, weight, style)
    rounded = modulated_conv2d(features.to(dtype), weight, style, fused=fused)
    assert rounded.dtype == dtype
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = modulated_conv2d(features, weight, style, fused=fused)
    assert (mixed - exact).abs().max() < 0.05 * exact.abs().max()
