"""CLIP-S and RefCLIP-S of captions, by the image and the text tower of one CLIP (Hessel et al. 2021).

Legend: N images, E embedding width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.pairs import Reference, check_captions, reduce_references
from mindeye_pl.metrics.captions.similarity import TextEmbedder

#: Text in front of every caption, with which the authors and BrainHub compute the score.
PROMPT = "A photo depicts "
#: Factor that brings typical cosines of CLIP to 0 to 1.
_SCALE = 2.5


def clip_score_per_image(
    predicted: Sequence[str],
    references: Sequence[Reference],
    *,
    image_embeddings: Tensor,
    embedder: TextEmbedder,
    prompt: str = PROMPT,
) -> Tensor:
    """CLIP-S: similarity of caption and seen image in CLIP's space.

    Formula: 2.5 max(cos(e(prompt + caption), v(image)), 0), with e and v CLIP's projected embeddings
    Range: 0 to 2.5
    Direction: higher is better.
    Chance: no single number, and far above 0; see the row of another test image
    Weights: clip_b32 and clip_text_b32; none for the laptop's own CLIP
    Not shown: how much is right: unrelated captions are already similar to an image. It needs no reference, so a
        caption that a person would not write can score.
    Source: Hessel et al. 2021, as BrainHub computes it, except that images are resized to a square and not cropped

    Args:
        predicted: N captions.
        references: of the images; not compared, only counted.
        image_embeddings: `(N, E)` of the seen images.
        embedder: the text tower of the same CLIP.
        prompt: text in front of every caption.

    Returns `(N,)` float64.

    Raises:
        UserError: as `pairs.check_captions`, and if the two towers' widths differ.
    """
    texts, _ = check_captions(predicted, references)
    captions = _unit(embedder, texts, prompt)
    return _SCALE * _cosines(image_embeddings, captions).clamp_min(0)


def ref_clip_score_per_image(
    predicted: Sequence[str],
    references: Sequence[Reference],
    *,
    image_embeddings: Tensor,
    embedder: TextEmbedder,
    prompt: str = PROMPT,
) -> Tensor:
    """RefCLIP-S: CLIP-S together with the similarity to the nearest reference.

    Formula: 2 a b / (a + b), with a CLIP-S and b = max(0, largest cosine of the embeddings of caption and references)
    Range: 0 to 1.43
    Direction: higher is better.
    Chance: no single number, and far above 0; see the row of another test image
    Weights: clip_b32 and clip_text_b32; none for the laptop's own CLIP
    Not shown: as CLIP-S and the cosine of captions by CLIP.
    Source: Hessel et al. 2021, as BrainHub computes it, except that images are resized to a square and not cropped

    Arguments, result and errors as `clip_score_per_image`.
    """
    given = {"image_embeddings": image_embeddings, "embedder": embedder, "prompt": prompt}
    of_image = clip_score_per_image(predicted, references, **given)  # type: ignore[arg-type]
    texts, lists = check_captions(predicted, references)
    repeated = [text for text, own in zip(texts, lists, strict=True) for _ in own]
    flat = [reference for own in lists for reference in own]
    pairs = (_unit(embedder, repeated, prompt) * _unit(embedder, flat, prompt)).sum(1)
    of_references = reduce_references(pairs, lists, "best").clamp_min(0)
    return 2 * of_image * of_references / (of_image + of_references).clamp_min(1e-12)


def _unit(embedder: TextEmbedder, captions: Sequence[str], prompt: str) -> Tensor:
    """Return normalised embeddings `(N, E)` float64."""
    return normalize(embedder([prompt + caption for caption in captions]).double().cpu(), dim=1)


def _cosines(images: Tensor, captions: Tensor) -> Tensor:
    if images.shape != captions.shape:
        got = f"images {tuple(images.shape)}, captions {tuple(captions.shape)}"
        raise UserError("the image and the text tower do not fit", got=got, expected="the towers of one CLIP")
    return torch.sum(normalize(images.double().cpu(), dim=1) * captions, dim=1)
