"""Blurry images as a linear map of the voxels.

Legend: B batch, V voxels, s pixels along a side, T = 3 s^2 values of an image, H and W image size.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class LinearBlur(nn.Module):
    """Images of few pixels by ridge regression, resized; it has no weights that learn and none in the state dict.

    Ridge regression shrinks predictions to the mean image, by more with less data and more noise. `spread` gives them
    contrast again.

    Args:
        weight: `(T, V)` float32.
        bias: `(T,)` float32.
        mean: `(3, s, s)` float32, mean of the training images.
        spread: factor on the difference from the mean image.
        image_size: (H, W); None leaves s pixels along a side.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        *,
        spread: float = 1.0,
        image_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("mean", mean, persistent=False)
        self.spread, self.image_size = spread, image_size

    def forward(self, voxels: Tensor) -> Tensor:
        """Return images in [0, 1]. Shape: `(B, V)` -> `(B, 3, H, W)` float32."""
        predicted = F.linear(voxels.float(), self.weight.float(), self.bias.float()).unflatten(1, self.mean.shape)
        images = self.mean + self.spread * (predicted - self.mean)  # (B, 3, s, s)
        if self.image_size is not None:
            images = F.interpolate(images, size=self.image_size, mode="bilinear", antialias=True)
        return images.clamp(0, 1)
