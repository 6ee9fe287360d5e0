"""SEED: semantic agreement of two images by the objects in them, their captions and a network's features.

Park et al. 2026, ICLR, arXiv:2503.06437, known here from its repository's description and a summary.

Legend: N pairs of reconstruction and image, C categories.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor


def object_f1_per_image(found: Sequence[Collection[str]], seen: Sequence[Collection[str]]) -> Tensor:
    """Agreement of the object categories in a reconstruction with those in its image.

    Formula: 2 |A and B| / (|A| + |B|), with A and B the categories in the two images; 0 where neither has any
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none for this function; those of the captioner or the detector that found the categories.
    Not shown: how many objects of a category there are, where, and of what colour. Published: categories of a detector,
        MM-Grounding-DINO; here: those that the captions of the two images name, so the captioner's errors count too.
        Where nothing is named there is nothing to agree on, so a captioner without objects scores 0.
    Source: SEED, Park et al. 2026; its treatment of images without objects is not known

    Shape: N collections of names each -> `(N,)` float64.
    """
    assert len(found) == len(seen), f"{len(found)} and {len(seen)} images"
    pairs = [(set(some), set(others)) for some, others in zip(found, seen, strict=True)]
    scores = [2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0 for a, b in pairs]
    return torch.tensor(scores, dtype=torch.float64)


def detected_categories(scores: Tensor, categories: Sequence[str], threshold: float) -> list[frozenset[str]]:
    """Return the categories whose best detection reaches a threshold, by scores `(N, C)`: N sets."""
    assert scores.shape[1:] == (len(categories),), f"{tuple(scores.shape)}, {len(categories)} categories"
    reached = (scores >= threshold).tolist()
    return [frozenset(name for name, there in zip(categories, row, strict=True) if there) for row in reached]


def seed_per_image(object_f1: Tensor, caption_similarity: Tensor, distance: Tensor) -> Tensor:
    """Mean of Object F1, the similarity of the captions and the similarity of EfficientNet's features.

    Formula: (F1 + s + 1 - d) / 3, with s the cosine of the sentence embeddings of the two images' captions, and d the
        correlation distance of EfficientNet's features
    Range: -0.67 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: of the captioner, the sentence embedder and EfficientNet
    Not shown: colours and places, and details that a caption leaves out. With objects from captions, a captioner's
        habits count in two of the three parts.
    Source: SEED, Park et al. 2026

    Shape: `(N,)` each -> `(N,)` float64.
    """
    return (object_f1.double() + caption_similarity.double() + 1 - distance.double()) / 3
