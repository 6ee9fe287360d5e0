"""Images to refined images, given their captions: a pass of its own, in which no other model has to be in memory.

Legend: B images, H and W image size.
"""

from dataclasses import dataclass

from pytorch_lightning import LightningModule
from torch import Tensor

from mindeye_pl.nn.diffusion.refiner import Refiner, blend
from mindeye_pl.nn.diffusion.seeds import image_seed


@dataclass(frozen=True)
class Refinement:
    """Settings of the refiner."""

    guidance: float = 5.0  # classifier-free
    blend: float = 0.0  # weight of the blurry image in the refined one, at the refiner's size
    negative_prompt: str = ""  # condition that the guidance leads away from
    input_size: int | None = None  # side in pixels of the images before they are enlarged; None for their own


@dataclass
class CaptionedImages:
    """Drawn images with what the refiner knows of them."""

    stimulus_ids: Tensor  # (B,)
    images: Tensor  # (B, 3, any, any) in [0, 1]
    captions: list[str]  # B
    blurry_images: Tensor | None = None  # (B, 3, any, any) in [0, 1]; for `Refinement.blend`


class ImageRefiner(LightningModule):
    """Refiner with its settings.

    Args:
        refiner: refines images, given their captions.
        refinement: settings.
        seed: with an image's stimulus id it gives the image's seed, as in `Reconstructor`.
    """

    def __init__(self, refiner: Refiner, refinement: Refinement, *, seed: int = 0):
        super().__init__()
        self.refiner, self.refinement, self.seed = refiner, refinement, seed

    def predict_step(self, query: CaptionedImages, batch_index: int = 0) -> dict[str, Tensor]:
        """Return `stimulus_ids` and `refined_images` `(B, 3, H, W)` float32 in [0, 1]."""
        return {"stimulus_ids": query.stimulus_ids, "refined_images": self.refine(query)}

    def refine(self, query: CaptionedImages) -> Tensor:
        """Return refined images `(B, 3, H, W)` float32 in [0, 1]."""
        wanted = self.refinement
        refined = self.refiner.refine(
            query.images,
            query.captions,
            noise=self.refiner.noise([image_seed(self.seed, id_) for id_ in query.stimulus_ids.tolist()]),
            guidance=wanted.guidance,
            negative_prompt=wanted.negative_prompt,
            input_size=wanted.input_size,
        )
        blurry = query.blurry_images
        return refined if blurry is None or not wanted.blend else blend(refined, blurry, wanted.blend)
