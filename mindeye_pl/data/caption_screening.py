"""Screening of captions that do not match the shown image (Mind Reader, spec section 2.2).

NSD shows a square crop of a COCO image, and a caption may describe the part that was cropped away. CLIP compares each
caption with the crop.

Legend: C captions of an image, E width of CLIP's embedding; rows of missing captions are zero and never count.
"""

from collections.abc import Callable

import numpy as np

#: Rule that selects captions by CLIP's embeddings; arguments as `half_of_best`.
ScreeningRule = Callable[..., np.ndarray]


def half_of_best(image: np.ndarray, captions: np.ndarray, *, logit_scale: float, share: float = 0.5) -> np.ndarray:
    """Return the mask of captions with at least `share` of the best caption's CLIP probability, `(..., C)` bool.

    Probabilities are a softmax over the image's captions; the best one is always kept. With OpenAI's scale of 100, half
    of the probability is a difference of 0.007 in cosine. The rule follows the paper; its code was not released. The
    embeddings of `image` `(..., E)` and `captions` `(..., C, E)` are neither clamped nor normalised, and zeros for
    missing captions; `logit_scale` is CLIP's factor of the cosines.
    """
    logits = logit_scale * _cosines(image, captions)  # (..., C), -inf for missing captions
    best = logits.max(-1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # inf - inf for an image without captions
        return is_caption(captions) & (np.exp(logits - best) >= share)


def every_caption(image: np.ndarray, captions: np.ndarray, *, logit_scale: float, share: float = 0.5) -> np.ndarray:
    """Keep all captions."""
    return is_caption(captions)


#: Values of the option `screening.rule`.
RULES: dict[str, ScreeningRule] = {"half_of_best": half_of_best, "all": every_caption}


def is_caption(captions: np.ndarray) -> np.ndarray:
    """Return the mask of captions that are not missing, `(..., C)` bool."""
    return np.asarray(captions.any(-1))


def _cosines(image: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Return the cosine of each caption with the image, `(..., C)` float64; -inf for missing captions."""
    image, captions = image.astype(np.float64), captions.astype(np.float64)
    image = image / np.linalg.norm(image, axis=-1, keepdims=True)
    lengths = np.linalg.norm(captions, axis=-1)
    products = np.einsum("...e,...ce->...c", image, captions)
    return np.divide(products, lengths, out=np.full_like(lengths, -np.inf), where=lengths > 0)
