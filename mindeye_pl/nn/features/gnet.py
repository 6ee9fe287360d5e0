"""GNet, the encoding model of the published brain correlation: images to betas (MindEye2, spec section 10).

The subjects share a convolutional encoder. Each voxel pools every feature map over a spatial field of its own and
weights the pooled features.

Legend: B images, H and W image size in pixels, P side of the encoder's images (227), V voxels of one subject,
K feature maps (2), C_k channels and G_k side of map k, F = sum of C_k.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

#: Side in pixels of the published encoder's training images.
IMAGE_SIZE = 227
#: Sides of the two feature maps of such an image.
MAP_SIZES = (25, 13)


def resize_by_pillow(images: Tensor) -> Tensor:
    """Resize as published: Pillow's Lanczos filter on 8-bit images, rounded down to grey levels.

    Shape: `(B, 3, H, W)` in [0, 1] -> `(B, 3, P, P)` float32 on the same device; no gradient passes.
    """
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

    resized = [
        pil_to_tensor(to_pil_image(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS))
        for image in images.detach().float().cpu()
    ]
    return torch.stack(resized).to(images.device).float() / 255


def compress(values: Tensor) -> Tensor:
    """Return the signed logarithm log(1 + |x|) tanh(x), element-wise."""
    return torch.log1p(values.abs()) * torch.tanh(values)


class _Block(nn.Module):
    """Batch norm, dropout of whole channels, 3x3 convolution, ReLU. `(B, in, G, G)` -> `(B, out, G, G)`."""

    def __init__(self, channels_in: int, channels_out: int, *, padding: int = 1):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels_in, momentum=0.25)
        self.dropout = nn.Dropout2d(0.5)
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=padding)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(self.dropout(self.norm(maps))).relu()


class GNetEncoder(nn.Module):
    """Encoder of images as two stacks of feature maps, a fine and a coarse one; arguments as of `GNet`."""

    mean: Tensor  # (3, 1, 1)

    def __init__(self, *, prefilter: Sequence[int], early: int, width: int, trunk: int):
        super().__init__()
        first, second = prefilter
        assert trunk <= width, f"{trunk} of {width} channels"
        self.trunk = trunk
        self.channels = (early + 2 * trunk, 4 * trunk)  # C_k
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.prefilter = nn.Sequential(
            *(nn.Conv2d(3, first, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(first, second, 5, padding=2), nn.ReLU()),
        )
        self.early = _Block(second, early, padding=0)
        self.fine = nn.ModuleList([_Block(early, width), _Block(width, width)])
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.coarse = nn.ModuleList([_Block(width, width) for _ in range(3)] + [_Block(width, trunk)])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images. Shape: `(B, 3, P, P)` in [0, 1] -> `(B, C_k, G_k, G_k)` for k = 1, 2."""
        maps = self.early(self.prefilter(images - self.mean))
        fine, coarse = [maps], []
        for block in self.fine:
            maps = block(maps)
            fine.append(maps[:, : self.trunk])
        maps = self.pool(maps)
        for block in self.coarse:
            maps = block(maps)
            coarse.append(maps[:, : self.trunk])
        return [torch.cat(fine, 1), torch.cat(coarse, 1)]


class SpatialReadout(nn.Module):
    """Read-out of one subject's voxels: a spatial field over each map, and weights of the pooled features."""

    #: Voxels pooled at once; the pooled features of all voxels and 100 images take 3 GB.
    voxels_per_block = 512

    def __init__(self, num_voxels: int, channels: Sequence[int], map_sizes: Sequence[int]):
        super().__init__()
        self.fields = nn.ParameterList(nn.Parameter(torch.zeros(num_voxels, side, side)) for side in map_sizes)
        self.weight = nn.Parameter(0.01 * torch.randn(num_voxels, sum(channels)))
        self.bias = nn.Parameter(torch.zeros(num_voxels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the betas. Shape: `(B, C_k, G_k, G_k)` each -> `(B, V)`."""
        compressed = [compress(features.flatten(2)) for features in maps]  # (B, C_k, G_k^2)
        voxels = torch.arange(len(self.bias), device=self.bias.device)
        return torch.cat([self._block(compressed, block) for block in voxels.split(self.voxels_per_block)], 1)

    def _block(self, compressed: Sequence[Tensor], voxels: Tensor) -> Tensor:
        pooled = [
            torch.einsum("vg,bcg->bvc", field[voxels].flatten(1).softmax(1), features)
            for field, features in zip(self.fields, compressed, strict=True)
        ]
        features = compress(torch.cat(pooled, 2))  # (B, v, F)
        return torch.einsum("bvf,vf->bv", features, self.weight[voxels]) + self.bias[voxels]


class GNet(nn.Module):
    """Encoder and one read-out per subject.

    Args:
        voxel_counts: V by subject.
        prefilter: channels of the first two convolutions, which are AlexNet's.
        early: channels after them.
        width: channels of the trunk.
        trunk: number of a trunk layer's channels that voxels read; the last layer has only these.
        map_sizes: G_k.
    """

    def __init__(
        self,
        voxel_counts: Mapping[int, int],
        *,
        prefilter: Sequence[int] = (64, 192),
        early: int = 128,
        width: int = 256,
        trunk: int = 64,
        map_sizes: Sequence[int] = MAP_SIZES,
    ):
        super().__init__()
        self.encoder = GNetEncoder(prefilter=prefilter, early=early, width=width, trunk=trunk)
        channels = self.encoder.channels
        self.readouts = nn.ModuleDict(
            {str(subject): SpatialReadout(count, channels, map_sizes) for subject, count in voxel_counts.items()}
        )

    @property
    def subjects(self) -> list[int]:
        """Subjects with a read-out, ascending."""
        return sorted(map(int, self.readouts))

    def forward(self, images: Tensor, subject: int) -> Tensor:
        """Predict the betas of images, in the units of the betas that the model was trained on.

        Shape: `(B, 3, P, P)` float32 in [0, 1] -> `(B, V)` float32.
        """
        assert str(subject) in self.readouts, f"subject {subject} of {self.subjects}"
        return self.readouts[str(subject)](self.encoder(images))

    @torch.no_grad()
    def predict(self, images: Tensor, subject: int, *, batch_size: int = 100) -> Tensor:
        """Predict the betas of images of any size and number, as the published evaluation does.

        Shape: `(N, 3, H, W)` in [0, 1] -> `(N, V)` float32 on the CPU.
        """
        assert not self.training, "dropout and batch statistics would change the betas: call eval() first"
        assert len(images), "no image"
        batches = (resize_by_pillow(batch).to(self.encoder.mean.device) for batch in images.split(batch_size))
        return torch.cat([self(batch, subject).cpu() for batch in batches])
