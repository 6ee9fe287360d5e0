"""Caption screening, compared with a softmax per image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindeye_pl.data.caption_screening import RULES, every_caption, half_of_best


def by_softmax(image: np.ndarray, captions: np.ndarray, logit_scale: float, share: float) -> list[bool]:
    """Compute the rule with PyTorch's cosine and softmax over the existing captions."""
    existing = [index for index, caption in enumerate(captions) if np.abs(caption).sum() > 0]
    kept = [False] * len(captions)
    if existing:
        seen, words = torch.from_numpy(image)[None], torch.from_numpy(captions[existing])
        chances = (logit_scale * torch.cosine_similarity(seen, words)).softmax(0)
        for index, chance in zip(existing, chances.tolist(), strict=True):
            kept[index] = chance >= share * chances.max().item()
    return kept


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1.0, 19.4, 100.0]), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_half_of_best_equals_a_softmax(seed: int, scale: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    images, captions = rng.standard_normal((6, 8)), rng.standard_normal((6, 5, 8))
    captions += 3 * images[:, None]  # similar, like captions of one image
    captions[rng.random((6, 5)) < 0.3] = 0
    kept = half_of_best(images, captions, logit_scale=scale, share=share)
    assert kept.tolist() == [by_softmax(i, c, scale, share) for i, c in zip(images, captions, strict=True)]
    one = half_of_best(images[0], captions[0], logit_scale=scale, share=share)
    assert one.tolist() == kept[0].tolist(), "a single image"


def test_best_caption_is_kept_and_missing_captions_never_count() -> None:
    image = np.array([1.0, 0.0])
    captions = np.array([[0.0, 0.0], [-1.0, 0.2], [-1.0, 0.3], [0.0, 0.0]])  # none matches; zeros would match better
    assert half_of_best(image, captions, logit_scale=100.0).tolist() == [False, False, True, False]
    assert half_of_best(image, captions, logit_scale=1e-3).tolist() == [False, True, True, False]
    assert every_caption(image, captions, logit_scale=100.0).tolist() == [False, True, True, False]
    for rule in RULES.values():
        assert rule(image, np.zeros((3, 2)), logit_scale=100.0, share=0.5).tolist() == [False] * 3
        assert rule(image, np.zeros((0, 2)), logit_scale=100.0, share=0.5).shape == (0,)


@pytest.mark.parametrize("length", [0.1, 30.0])
def test_screening_ignores_embedding_length(length: float) -> None:
    rng = np.random.default_rng(1)
    image, captions = rng.standard_normal(8), rng.standard_normal((5, 8))
    kept = half_of_best(image, captions, logit_scale=10.0)
    assert 0 < kept.sum() < 5
    assert half_of_best(length * image, captions / length, logit_scale=10.0).tolist() == kept.tolist()


def test_half_of_best_at_clips_logit_scale() -> None:
    """Half of the probability is a difference of 0.0069 in cosine."""
    for gap, stays in ((0.0068, True), (0.0070, False)):
        cosines = np.array([0.3, 0.3 - gap])
        captions = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
        assert half_of_best(np.array([1.0, 0.0]), captions, logit_scale=100.0).tolist() == [True, stays]
