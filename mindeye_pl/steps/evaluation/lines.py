"""Lines of the reconstructions' table: name, kind and a note of each, in the table's order."""

from typing import Literal

from mindeye_pl.steps.evaluation import image_sets
from mindeye_pl.steps.evaluation.brain_scores import TRUE_IMAGE

Kind = Literal["null", "baseline", "model", "ceiling"]

LINES: dict[str, tuple[str, Kind, str]] = {
    image_sets.GREY: ("grey image", "null", ""),
    image_sets.MEAN_IMAGE: ("mean image", "null", "of the training images"),
    image_sets.OTHER_IMAGE: ("another image", "null", "of the test set"),
    image_sets.SHUFFLED: ("shuffled brains", "null", ""),
    image_sets.NEAREST: ("nearest image", "baseline", "of the training ones, by predicted tokens; nothing is drawn"),
    image_sets.BLURRY: ("blurry alone", "baseline", "of the low-level branch"),
    image_sets.REFINED: ("refined", "model", ""),
    image_sets.TRUE_TOKENS: ("true tokens", "ceiling", "drawn from the image's own tokens"),
    image_sets.VAE: ("through the VAE", "ceiling", "the image encoded and decoded"),
    TRUE_IMAGE: ("the image itself", "ceiling", "through the encoder"),
}
