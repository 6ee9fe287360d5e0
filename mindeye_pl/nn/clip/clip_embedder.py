"""Target tokens of images, by an open_clip vision tower.

MindEye2 uses the patch tokens before the projection (spec section 5), MindEye1 all tokens after it, or the class token
alone (spec section 3).

Legend: B batch, H and W image size in pixels, P input size of the tower, S tokens, D token width, N patches, F width of
the tower, E width after its projection.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop
from torchvision.transforms.v2.functional import resize as tv_resize

from mindeye_pl.nn.clip.embeddings import by_first_token
from mindeye_pl.nn.diffusion.seeds import seeded
from mindeye_pl.types import PositiveInt, PublishedOrCorrected, Seed

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

#: Tokens of an image.
TokenKind = Literal["patches", "hidden", "class"]

#: How an image is brought to the tower's size.
Resizing = Literal["stretched", "published", "corrected"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


#: Map images in [0, 1] to CLIP's input. The published embedder maps [-1, 1] to [0, 1] although images are in [0, 1].
INPUT_RANGES: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": lambda images: (images + 1) / 2,  # washed-out images
    "corrected": lambda images: images,
}


class CLIPImageEmbedder(nn.Module):
    """Embedder of images as target tokens.

    The module is frozen and in eval mode; gradients still flow to the images.

    Args:
        visual: vision tower of an open_clip model.
        tokens: kind of tokens. "patches" `(N, F)`, after `ln_post` and before `proj`, without the class token, not
            normalised; "hidden" `(1 + N, E)`, the class token first, all after `proj` and divided by the class token's
            norm; "class" `(1, E)`, the class token after `proj`, not normalised.
        input_range: "published" takes the washed-out image, with which released weights of MindEye2 were trained;
            "corrected" the image itself, as MindEye1 does.
        resizing: key of `RESIZERS`. "stretched" is MindEye2's, the other two crop the middle square as MindEye1 does:
            "published" without antialiasing, "corrected" with it.
        standardise: transform of the tokens, `(B, S, D)` to the same shape; None for CLIP's own.
    """

    _mean: Tensor  # (1, 3, 1, 1)
    _std: Tensor

    def __init__(
        self,
        visual: "VisionTransformer",
        *,
        tokens: TokenKind = "patches",
        input_range: PublishedOrCorrected = "published",
        resizing: Resizing = "stretched",
        standardise: nn.Module | None = None,
    ):
        super().__init__()
        visual.output_tokens = True
        self.visual = visual
        self.standardise = standardise or nn.Identity()
        self._kind, self._input_range, self._resizing = tokens, input_range, resizing
        self.image_size: tuple[int, int] = visual.image_size
        patches, (width, projected) = visual.grid_size[0] * visual.grid_size[1], visual.proj.shape
        sizes = {"patches": (patches, width), "hidden": (1 + patches, projected), "class": (1, projected)}
        self.num_tokens, self.token_dim = sizes[tokens]
        self.register_buffer("_mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize and normalise images `(B, 3, H, W)` in [0, 1] as CLIP's input `(B, 3, P, P)` float32."""
        # The blur is a convolution, which autocast would round to half precision.
        with torch.autocast(images.device.type, enabled=False):
            resized = RESIZERS[self._resizing](images.float(), self.image_size)
            return (INPUT_RANGES[self._input_range](resized) - self._mean) / self._std

    def pooled(self, images: Tensor) -> Tensor:
        """Return CLIP's own embedding `(B, E)` of images, which is compared with captions; not normalised."""
        return self._tower(images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Embed images `(B, 3, H, W)` in [0, 1] as tokens `(B, S, D)`, in the dtype of the tower or of autocast."""
        return self.with_pooled(images)[0]

    def with_pooled(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, S, D)` and CLIP's own embedding `(B, E)` of images, from one pass through the tower."""
        embedding, patches = self._tower(images)
        tokens = embedding[:, None] if self._kind == "class" else patches
        if self._kind == "hidden":
            tokens = by_first_token(torch.cat([embedding[:, None], patches @ self.visual.proj], dim=1))
        return self.standardise(tokens), embedding

    def _tower(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected class token `(B, E)` and the patches after `ln_post`, `(B, N, F)`."""
        return self.visual(self.preprocess(images).to(self.visual.conv1.weight.dtype))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bicubically with aligned corners, after a blur if images shrink, as kornia 0.7; identity at equal size.

    Shape: `(B, C, H, W)` -> `(B, C, *size)`.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    factors = [before / after for before, after in zip(images.shape[-2:], size, strict=True)]
    if max(factors) > 1:
        vertical, horizontal = (_gaussian_kernel(factor).to(images) for factor in factors)
        images = _blur(_blur(images, vertical.view(-1, 1)), horizontal.view(1, -1))
    return F.interpolate(images, size=size, mode="bicubic", align_corners=True)


def _middle_square(images: Tensor, size: tuple[int, int], *, antialias: bool) -> Tensor:
    """Resize the shorter side bicubically and crop the middle, as torchvision does (MindEye1, spec section 3.1)."""
    bicubic = InterpolationMode.BICUBIC
    return center_crop(tv_resize(images, [size[0]], interpolation=bicubic, antialias=antialias), list(size))


RESIZERS: dict[Resizing, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "stretched": resize,
    "published": partial(_middle_square, antialias=False),
    "corrected": partial(_middle_square, antialias=True),
}


def _gaussian_kernel(factor: float) -> Tensor:
    """Return a Gaussian for shrinking by `factor`: sigma (factor - 1) / 2, four sigma wide, at least three taps."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) // 2 * 2 + 1  # rounded up to an odd number
    offsets = torch.arange(taps) - taps // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def _blur(images: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each channel of `(B, C, H, W)` with a `(k, l)` kernel; the border is mirrored."""
    channels, (rows, columns) = images.shape[1], kernel.shape
    padded = F.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="reflect")
    return F.conv2d(padded, kernel.expand(channels, 1, rows, columns), groups=channels)


class TokenStandardiser(nn.Module):
    """Fixed affine map to mean 0 and standard deviation 1 at each position and channel."""

    mean: Tensor  # (S, D)
    std: Tensor  # (S, D)

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Standardise tokens. Shape: `(B, S, D)` -> `(B, S, D)`."""
        return (tokens - self.mean) / self.std


def patch_size(image_size: int, num_tokens: int) -> int:
    """Return the side of a square patch in pixels.

    Raises:
        ValueError: if the image cannot be divided into that many patches.
    """
    side = round(num_tokens**0.5)
    if side**2 != num_tokens or image_size % side:
        raise ValueError(f"an image of {image_size} pixels cannot be cut into {num_tokens} square patches")
    return image_size // side


def random_embedder(
    seed: Seed = 0,
    *,
    image_size: PositiveInt = 64,
    num_tokens: PositiveInt = 64,
    token_dim: PositiveInt = 64,
    layers: PositiveInt = 3,
    heads: PositiveInt = 4,
    input_range: PublishedOrCorrected = "published",
) -> CLIPImageEmbedder:
    """Return a small open_clip vision tower with random weights, the same on every call with the same arguments.

    Raw tokens of a random tower have a large common mean, which would make all images' targets nearly equal. They are
    therefore standardised at each position and channel, by mean and standard deviation over 256 synthetic images drawn
    with the seed. The global random state is neither read nor changed.

    Args:
        seed: of weights and synthetic images.
        image_size: input side of the tower in pixels; images of another size are resized.
        num_tokens: S, a square number; patches are `image_size / sqrt(S)` pixels wide.
        token_dim: D, the tower's width.
        layers: transformer blocks.
        heads: attention heads.
        input_range: see `CLIPImageEmbedder`.

    Raises:
        ValueError: if the image cannot be divided into that many patches.
    """
    from open_clip.transformer import VisionTransformer

    with seeded(seed):
        patch = patch_size(image_size, num_tokens)
        visual = VisionTransformer(image_size, patch, token_dim, layers, heads, mlp_ratio=4.0, output_dim=token_dim)
        images = _synthetic_images(256, image_size)
    raw = CLIPImageEmbedder(visual, input_range=input_range)
    with torch.no_grad():
        tokens = torch.cat([raw(batch) for batch in images.split(64)])  # (256, S, D)
    standardise = TokenStandardiser(tokens.mean(0), tokens.std(0))
    return CLIPImageEmbedder(visual, input_range=input_range, standardise=standardise)


def _synthetic_images(count: int, size: int) -> Tensor:
    """Return colour gradients with coloured noise at three scales, `(count, 3, size, size)` in [0, 1]."""
    ends = torch.rand(2, count, 3, 1, 1)
    angle = 2 * torch.pi * torch.rand(count, 1, 1, 1)
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, size), torch.linspace(-0.5, 0.5, size), indexing="ij")
    along = 0.5 + (x * torch.cos(angle) + y * torch.sin(angle)) / 2**0.5  # (count, 1, size, size)
    images = ends[0] + (ends[1] - ends[0]) * along
    for cells in (4, 8, 16):
        amplitude = 0.3 * torch.rand(count, 1, 1, 1)
        noise = torch.randn(count, 3, cells, cells)
        images = images + amplitude * F.interpolate(noise, size=(size, size), mode="bilinear")
    return images.clamp(0, 1)
