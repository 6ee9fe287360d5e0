"""Augmented views of images, drawn by a seed that follows from the image.

Legend: B images, H and W image size in pixels.
"""

from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor
from torchvision.transforms import v2


def _colour_jitter(p: float) -> v2.Transform:
    return v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=p)


class Solarise(torch.nn.Module):
    """Inverts what is bright, as kornia's default in the published code: both numbers are drawn for each image.

    Formula: y = clamp(x + a, 0, 1), and 1 - y where y >= t, with a uniform in [-0.1, 0.1] and t in [0.4, 0.6].
    """

    def forward(self, image: Tensor) -> Tensor:
        """Solarise with random numbers. Shape: `(..., H, W)` -> `(..., H, W)`."""
        addition, threshold = torch.rand(2) * 0.2 + torch.tensor([-0.1, 0.4])
        shifted = (image + addition).clamp(0, 1)
        return torch.where(shifted < threshold, shifted, 1 - shifted)


def _solarise(p: float) -> v2.Transform:
    return v2.RandomApply([Solarise()], p=p)


def _mindeye2_views(size: Sequence[int]) -> v2.Transform:
    colours = [_colour_jitter(0.8), v2.RandomGrayscale(0.1), _solarise(0.1)]
    return v2.Compose([*colours, v2.RandomResizedCrop(list(size), scale=(0.9, 0.9), ratio=(1, 1))])


def _mindeye1_views(size: Sequence[int]) -> v2.Transform:
    colours = [_colour_jitter(0.8), v2.RandomGrayscale(0.2), _solarise(0.2)]
    blur = v2.RandomApply([v2.GaussianBlur(7, sigma=(0.1, 2.0))], p=0.1)
    return v2.Compose([*colours, blur, v2.RandomResizedCrop(list(size), scale=(0.5, 1.0))])


class BlackSquare(torch.nn.Module):
    """Black square centred on a random pixel and clipped at the image's border; `fraction` is of the image's height."""

    def __init__(self, fraction: float):
        super().__init__()
        self.fraction = fraction

    def forward(self, image: Tensor) -> Tensor:
        """Set a random square to zero. Shape: `(..., H, W)` -> `(..., H, W)`."""
        height, width = image.shape[-2:]
        side = round(self.fraction * height)
        top, left = (int(torch.randint(size, ())) - side // 2 for size in (height, width))
        blackened = image.clone()
        blackened[..., max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
        return blackened


def _mind_reader_views(size: Sequence[int]) -> v2.Transform:
    scale = size[0] / 256  # the published sizes are for images of 256 pixels
    taps = 2 * round((23 * scale - 1) / 2) + 1
    blur = v2.GaussianBlur(taps, sigma=(0.1 * scale, 2.0 * scale))
    shape = [v2.RandomResizedCrop(list(size), scale=(0.8, 1.0)), v2.RandomHorizontalFlip(0.5)]
    colours = [_colour_jitter(0.4), v2.RandomGrayscale(0.2), v2.RandomApply([blur], p=0.5)]
    return v2.Compose([*shape, *colours, BlackSquare(0.3)])


#: Transforms by system (MindEye2, spec section 6.4; MindEye1, section 7.2; Mind Reader, section 3.1, which does not
#: give the blur's width: torchvision's 0.1 to 2 pixels).
AUGMENTATIONS = {"mindeye2": _mindeye2_views, "mindeye1": _mindeye1_views, "mind_reader": _mind_reader_views}


def augmented_views(images: Tensor, count: int, *, augmentation: str = "mindeye2") -> Tensor:
    """Return augmented views of each image: crops with changed colours, as in a system's training.

    The random draws depend on the image alone, so that the views are the same in any batch.
    Shape: `(B, 3, H, W)` in [0, 1], on the CPU -> `(B, count, 3, H, W)`.
    """
    draw = AUGMENTATIONS[augmentation](images.shape[-2:])
    views = []
    with torch.random.fork_rng(devices=[]):
        for image in images:
            torch.default_generator.manual_seed(crc32(image.numpy().tobytes()))
            views.append(torch.stack([draw(image) for _ in range(count)]))
    return torch.stack(views).clamp(0, 1)
