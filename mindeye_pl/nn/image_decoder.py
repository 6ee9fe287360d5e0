"""Contract of image decoders: models that draw images from tokens.

Legend: B images, S tokens, D token width, H and W image size.
"""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from mindeye_pl.nn.diffusion.solvers import Sampling


class ImageDecoder(nn.Module):
    """Base of image decoders. The rest of the code uses only these attributes and methods.

    Every random draw belongs to one image and depends on its seed alone, not on the batch or the device.

    Attributes:
        sampling: settings of the sampler; a decoder without a sampler ignores them.
        image_size: (H, W).
        token_dim: D.
    """

    image_size: tuple[int, int]
    token_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.sampling = Sampling()

    @abstractmethod
    def draw(self, tokens: Tensor, seeds: Sequence[int], init_images: Tensor | None = None) -> Tensor:
        """Draw images `(B, 3, H, W)` float32 in [0, 1].

        Args:
            tokens: `(B, S, D)`.
            seeds: one per image; the same tokens and seed give the same image in any batch.
            init_images: `(B, 3, any, any)` in [0, 1], to start from, for example blurry reconstructions; a decoder that
                cannot start from an image ignores them.
        """

    def autoencode(self, images: Tensor) -> Tensor | None:
        """Return images after encoding and decoding by the decoder's own VAE; None if it has no VAE.

        Shape: `(B, 3, H, W)` in [0, 1] -> the same.
        """
        return None
