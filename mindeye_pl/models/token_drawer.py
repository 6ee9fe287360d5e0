"""Images from given tokens, without a brain: what the image decoder can draw at best.

Legend: B images, S tokens, D token width, H and W image size.
"""

from dataclasses import dataclass

from pytorch_lightning import LightningModule
from torch import Tensor

from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.nn.image_decoder import ImageDecoder


@dataclass
class TokenQuery:
    """Tokens of some images."""

    stimulus_ids: Tensor  # (B,)
    tokens: Tensor  # (B, S, D)


class TokenDrawer(LightningModule):
    """Image decoder alone.

    Args:
        image_decoder: draws images from tokens.
        seed: with an image's stimulus id it gives the image's seed, as in `Reconstructor`.
    """

    def __init__(self, image_decoder: ImageDecoder, *, seed: int = 0):
        super().__init__()
        self.image_decoder, self.seed = image_decoder, seed

    def predict_step(self, query: TokenQuery, batch_index: int = 0) -> dict[str, Tensor]:
        """Return `stimulus_ids` and `images` `(B, 3, H, W)` float32 in [0, 1]."""
        seeds = [image_seed(self.seed, id_) for id_ in query.stimulus_ids.tolist()]
        images = self.image_decoder.draw(query.tokens.float(), seeds)
        return {"stimulus_ids": query.stimulus_ids, "images": images}
