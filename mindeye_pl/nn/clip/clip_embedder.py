"""Images to target tokens, by an open_clip vision tower.

MindEye2 takes the patch tokens before the projection (spec section 5), MindEye1 all tokens behind it, or the class
token alone (spec section 3).

Legend: B batch, H and W size of an image in pixels, P size that the tower takes, S tokens, D token width, N patches, F
the tower's width, E width behind its projection.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.clip.embeddings import by_first_token
from mindeye_pl.types import PositiveInt, PublishedOrCorrected, Seed

if TYPE_CHECKING:
    from open_clip.transformer import VisionTransformer

#: Tokens of an image.
TokenKind = Literal["patches", "hidden", "class"]

#: How an image is brought to the tower's size.
Resizing = Literal["stretched", "published", "corrected"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def washed_out(images: Tensor) -> Tensor:
    """What the published embedder does: takes [0, 1] for [-1, 1], so that CLIP sees 0.5 + 0.5 I."""
    return (images + 1) / 2


def unchanged(images: Tensor) -> Tensor:
    """What CLIP was trained on: the image in [0, 1]."""
    return images


INPUT_RANGES: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {"published": washed_out, "corrected": unchanged}


def patch_tokens(embedding: Tensor, patches: Tensor, projection: Tensor) -> Tensor:
    """MindEye2's: patches after `ln_post` as they are. See `hidden_tokens`; -> `(B, N, F)`."""
    return patches


def hidden_tokens(embedding: Tensor, patches: Tensor, projection: Tensor) -> Tensor:
    """MindEye1's: the class token and every patch behind the projection, by the norm of the class token.

    Shape:
        embedding `(B, E)` of the projected class token, patches `(B, N, F)` after `ln_post`, projection `(F, E)` ->
        `(B, 1 + N, E)`.
    """
    return by_first_token(torch.cat([embedding[:, None], patches @ projection], dim=1))


def class_token(embedding: Tensor, patches: Tensor, projection: Tensor) -> Tensor:
    """CLIP's own embedding as one token, not normalised. See `hidden_tokens`; -> `(B, 1, E)`."""
    return embedding[:, None]


TOKENS: dict[TokenKind, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "patches": patch_tokens,
    "hidden": hidden_tokens,
    "class": class_token,
}


class CLIPImageEmbedder(nn.Module):
    """Target tokens of images.

    The module is frozen and in eval mode; gradients still flow to the images.

    Args:
        visual: the tower of an open_clip model.
        tokens: which ones. "patches" `(N, F)`, after `ln_post`, without the class token, before `proj`, not normalised;
            "hidden" `(1 + N, E)`, the class token first, all behind `proj` and over the class token's norm; "class"
            `(1, E)`, the class token behind `proj`, not normalised.
        input_range: "published" feeds the washed-out image that released weights of MindEye2 were trained with,
            "corrected" the image itself, as MindEye1 does.
        resizing: of `RESIZERS`. "stretched" is MindEye2's, the other two cut out the middle square as MindEye1 does:
            "published" samples without smoothing, "corrected" smooths before.
        standardise: applied to the tokens, `(B, S, D)` to the same shape; none for CLIP itself.
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
        self._tokens, self._to_input_range, self._resize = TOKENS[tokens], INPUT_RANGES[input_range], RESIZERS[resizing]
        self.image_size: tuple[int, int] = visual.image_size
        patches, (width, projected) = visual.grid_size[0] * visual.grid_size[1], visual.proj.shape
        sizes: dict[TokenKind, tuple[int, int]] = {
            "patches": (patches, width),
            "hidden": (1 + patches, projected),
            "class": (1, projected),
        }
        self.num_tokens: int
        self.token_dim: int
        self.num_tokens, self.token_dim = sizes[tokens]
        self.register_buffer("_mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def preprocess(self, images: Tensor) -> Tensor:
        """Resized, brought to CLIP's range and normalised.

        Shape:
            images `(B, 3, H, W)` in [0, 1] -> `(B, 3, P, P)` float32.
        """
        # The blur is a convolution, which autocast would round to half precision.
        with torch.autocast(images.device.type, enabled=False):
            resized = self._resize(images.float(), self.image_size)
            return (self._to_input_range(resized) - self._mean) / self._std

    def pooled(self, images: Tensor) -> Tensor:
        """CLIP's own embedding of images, the one that captions are compared with; not normalised.

        Shape:
            images `(B, 3, H, W)` in [0, 1] -> `(B, E)`.
        """
        embedding, _ = self.visual(self.preprocess(images).to(self.visual.conv1.weight.dtype))
        return embedding

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images.

        Shape:
            images `(B, 3, H, W)` in [0, 1] -> `(B, S, D)`, in the dtype of the tower or of autocast.
        """
        pixels = self.preprocess(images).to(self.visual.conv1.weight.dtype)  # (B, 3, P, P)
        embedding, patches = self.visual(pixels)
        return self.standardise(self._tokens(embedding, patches, self.visual.proj))  # (B, S, D)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic resize with aligned corners, blurred first where it shrinks, as kornia 0.7 does; identity at equal size.

    Shape:
        images `(B, C, H, W)` -> `(B, C, *size)`.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    factors = [before / after for before, after in zip(images.shape[-2:], size, strict=True)]
    if max(factors) > 1:
        vertical, horizontal = (_gaussian_kernel(factor).to(images) for factor in factors)
        images = _blur(_blur(images, vertical.view(-1, 1)), horizontal.view(1, -1))
    return F.interpolate(images, size=size, mode="bicubic", align_corners=True)


def middle_square(images: Tensor, size: tuple[int, int], *, antialias: bool) -> Tensor:
    """The shorter side resized bicubically and the middle cut out, as torchvision does (MindEye1, spec section 3.1).

    Shape:
        images `(B, C, H, W)` -> `(B, C, *size)`, of a square `size`.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import center_crop
    from torchvision.transforms.v2.functional import resize as tv_resize

    resized = tv_resize(images, [size[0]], interpolation=InterpolationMode.BICUBIC, antialias=antialias)
    return center_crop(resized, list(size))


RESIZERS: dict[Resizing, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "stretched": resize,
    "published": partial(middle_square, antialias=False),
    "corrected": partial(middle_square, antialias=True),
}


def _gaussian_kernel(factor: float) -> Tensor:
    """Normalised Gaussian for shrinking by `factor`: sigma (factor - 1) / 2, four sigma wide, three taps at least."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) // 2 * 2 + 1  # made odd, upwards
    offsets = torch.arange(taps) - taps // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def _blur(images: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of (B, C, H, W) convolved with a (k, l) kernel, the border mirrored."""
    channels, (rows, columns) = images.shape[1], kernel.shape
    padded = F.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="reflect")
    return F.conv2d(padded, kernel.expand(channels, 1, rows, columns), groups=channels)


class TokenStandardiser(nn.Module):
    """A fixed affine map to mean 0 and standard deviation 1 at each position and channel.

    Args:
        mean: `(S, D)`.
        std: `(S, D)`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape: `(B, S, D)` -> `(B, S, D)`."""
        return (tokens - self.mean) / self.std


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
    """A small open_clip vision tower with random weights, the same on every call with the same arguments.

    Raw tokens of a random tower share a huge common mean, which would make every image's target nearly the same. They
    are therefore standardised by the mean and standard deviation, at each position and channel, over 256 synthetic
    images that also follow from the seed. The global random state is neither read nor changed.

    Args:
        seed: of weights and synthetic images.
        image_size: side in pixels that the tower takes; images of another size are resized.
        num_tokens: S, a square number; the patches are `image_size / sqrt(S)` pixels wide.
        token_dim: D, the tower's width.
        layers: transformer blocks.
        heads: attention heads.
        input_range: see `CLIPImageEmbedder`.

    Raises:
        ValueError: if the image cannot be cut into that many patches.
    """
    from open_clip.transformer import VisionTransformer

    side = round(num_tokens**0.5)
    if side**2 != num_tokens or image_size % side:
        raise ValueError(f"an image of {image_size} pixels cannot be cut into {num_tokens} square patches")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the GPUs
        visual = VisionTransformer(
            image_size=image_size,
            patch_size=image_size // side,
            width=token_dim,
            layers=layers,
            heads=heads,
            mlp_ratio=4.0,
            output_dim=token_dim,
        )
        images = _synthetic_images(256, image_size)
    raw = CLIPImageEmbedder(visual, input_range=input_range)
    with torch.no_grad():
        tokens = torch.cat([raw(batch) for batch in images.split(64)])  # (256, S, D)
    standardise = TokenStandardiser(tokens.mean(0), tokens.std(0))
    return CLIPImageEmbedder(visual, input_range=input_range, standardise=standardise)


def _synthetic_images(count: int, size: int) -> Tensor:
    """Colour gradients with coloured noise of three coarsenesses on top, (count, 3, size, size) in [0, 1]."""
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
