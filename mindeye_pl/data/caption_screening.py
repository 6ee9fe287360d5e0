"""Which captions fit an image as it was shown (Mind Reader, spec section 2.2).

NSD shows a square that was cut out of a COCO image, and a caption may tell of what was cut off. CLIP compares each
caption with the square.

Legend: C captions of an image, E width of CLIP's embedding; an empty caption's row is zeros, and it never counts.
"""

from typing import Protocol

import numpy as np


class ScreeningRule(Protocol):
    """From CLIP's own embeddings to the captions that are kept."""

    def __call__(self, image: np.ndarray, captions: np.ndarray, *, logit_scale: float, share: float) -> np.ndarray:
        """Mask of the kept captions, `(..., C)` bool.

        Args:
            image: `(..., E)`, neither clamped nor normalised.
            captions: `(..., C, E)`, so too, zeros where there is none.
            logit_scale: what CLIP multiplies a cosine by.
            share: of the best caption's probability, from which one is kept.
        """


def half_of_best(image: np.ndarray, captions: np.ndarray, *, logit_scale: float, share: float = 0.5) -> np.ndarray:
    """A caption stays if CLIP gives it `share` of the probability that it gives the best one, at the least.

    Probabilities are a softmax over the image's captions; the best one always stays. With OpenAI's scale of 100 half
    of the probability is 0.007 of cosine. The published rule as it is remembered; its code was not released.
    """
    logits = logit_scale * _cosines(image, captions)  # (..., C), -inf where there is none
    best = logits.max(-1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # of an image without any
        return is_caption(captions) & (np.exp(logits - best) >= share)


def every_caption(image: np.ndarray, captions: np.ndarray, *, logit_scale: float, share: float = 0.5) -> np.ndarray:
    """All of them stay. See `half_of_best`."""
    return is_caption(captions)


#: Values of the option `screening.rule`.
RULES: dict[str, ScreeningRule] = {"half_of_best": half_of_best, "all": every_caption}


def is_caption(captions: np.ndarray) -> np.ndarray:
    """Which rows of `(..., C, E)` are a caption's, `(..., C)` bool."""
    return np.asarray(captions.any(-1))


def _cosines(image: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Of each caption with the image, `(..., C)` float64; -inf where there is no caption."""
    image, captions = image.astype(np.float64), captions.astype(np.float64)
    image = image / np.linalg.norm(image, axis=-1, keepdims=True)
    lengths = np.linalg.norm(captions, axis=-1)
    products = np.einsum("...e,...ce->...c", image, captions)
    return np.divide(products, lengths, out=np.full_like(lengths, -np.inf), where=lengths > 0)
