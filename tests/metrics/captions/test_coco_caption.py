"""BLEU, ROUGE-L, CIDEr and distinct captions: second implementations, values by hand, BrainHub's table."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from mindeye_pl.metrics.captions.coco_caption import (
    bleu,
    cider_per_image,
    coco_words,
    distinct_captions,
    rouge_coco_per_image,
)

#: At least 4 words: NLTK counts an n-gram in a shorter caption.
WORDS = st.lists(st.sampled_from(["a", "cat", "dog", "on", "the", "red", "sits"]), min_size=4, max_size=12).map(
    " ".join
)
SETS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=2, max_size=6)

PREDICTED = ["A man riding a wave.", "two dogs on the grass", "a man"]
REFERENCES = [
    ["A surfer riding a large wave.", "a man on a surfboard riding a wave"],
    ["a pizza on the table"],
    ["a man standing still in the rain"],
]

#: Printed by BrainHub: BLEU-1, BLEU-4, ROUGE, CIDEr, by file below `caption/comparison`.
BRAINHUB = {
    "umbrae-v-1-4/sub01": (59.44, 19.03, 43.71, 61.06),
    "umbrae-v-1-4/sub07": (57.20, 17.13, 42.16, 52.73),
    "braincap/sub01": (55.96, 14.51, 40.69, 41.30),
    "onellm/sub01": (47.04, 9.51, 35.05, 22.99),
    "sdrecon/sub01": (36.21, 3.43, 25.13, 13.83),
}


def test_words_are_lower_case_without_punctuation() -> None:
    assert coco_words('A man, "Bob", isn\'t here (yet); see: t-shirt...') == (
        *("a", "man", "bob", "is", "n't", "here", "yet", "see", "t-shirt"),
    )


@given(SETS)
@settings(max_examples=40, deadline=None)
def test_bleu_equals_nltks(pairs: list[tuple[str, list[str]]]) -> None:
    predicted, references = [text for text, _ in pairs], [own for _, own in pairs]
    tokens = [[reference.split() for reference in own] for own in references], [text.split() for text in predicted]
    for n in range(1, 5):
        found = bleu(predicted, references, n=n)
        matched = [_matches(text.split(), [r.split() for r in own], k) for text, own in pairs for k in range(1, n + 1)]
        by_n = [sum(matched[k::n]) for k in range(n)]
        if all(by_n):  # else NLTK's is 0 and coco-caption's nearly
            assert found.value == pytest.approx(corpus_bleu(*tokens, weights=[1 / n] * n), rel=1e-6)
        else:
            assert found.value < 0.01
        assert found.resampled is not None
        assert found.resampled(np.ones((1, len(pairs))))[0] == pytest.approx(found.value)


def _matches(words: list[str], references: list[list[str]], n: int) -> int:
    def grams(some: list[str]) -> Counter:
        return Counter(tuple(some[i : i + n]) for i in range(len(some) - n + 1))

    return sum(min(count, max(grams(r)[gram] for r in references)) for gram, count in grams(words).items())


def test_rouge_takes_precision_and_recall_of_the_best_references() -> None:
    # In common: 4 words with the first reference, of 6, and all 5 with the second, of 8.
    precision, recall = 5 / 5, 4 / 6
    by_hand = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    found = rouge_coco_per_image(PREDICTED, REFERENCES)
    assert found[0].item() == pytest.approx(by_hand)
    assert found[2].item() == pytest.approx((1 + 1.44) * 1 * (2 / 7) / (2 / 7 + 1.44))
    assert rouge_coco_per_image(["cat"], [["dog"]]).item() == 0


def dense_cider(predicted: list[str], references: list[list[str]]) -> list[float]:
    """CIDEr-D with dense vectors."""
    scores = []
    for index, text in enumerate(predicted):
        total = 0.0
        for n in range(1, 5):
            grams = [[_grams(reference, n) for reference in own] for own in references]
            vocabulary = sorted({g for own in grams for some in own for g in some} | set(_grams(text, n)))
            if not vocabulary:
                continue
            frequency = np.array([sum(any(g in some for some in own) for own in grams) for g in vocabulary])
            idf = math.log(len(predicted)) - np.log(np.maximum(frequency, 1))
            hypothesis = np.array([_grams(text, n).count(g) for g in vocabulary]) * idf
            for reference, own in zip(references[index], grams[index], strict=True):
                wanted = np.array([own.count(g) for g in vocabulary]) * idf
                norms = np.linalg.norm(hypothesis) * np.linalg.norm(wanted)
                difference = len(_grams(text, 2)) - len(_grams(reference, 2))
                cosine = np.minimum(hypothesis, wanted) @ wanted / norms if norms else 0.0
                total += cosine * math.exp(-(difference**2) / 72) / len(references[index])
        scores.append(10 * total / 4)
    return scores


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@given(SETS)
@settings(max_examples=40, deadline=None)
def test_cider_equals_a_dense_implementation(pairs: list[tuple[str, list[str]]]) -> None:
    predicted, references = [text for text, _ in pairs], [own for _, own in pairs]
    assert cider_per_image(predicted, references).tolist() == pytest.approx(dense_cider(predicted, references))


def test_cider_of_a_perfect_caption_is_ten() -> None:
    predicted = ["a man rides a large wave", "a cat sits on some grass", "two red buses wait here"]
    assert cider_per_image(predicted, predicted).tolist() == pytest.approx([10] * 3)
    assert cider_per_image(predicted[:1], predicted[:1]).item() == 0  # every n-gram is in every image


def test_distinct_captions_are_counted_by_their_words() -> None:
    found = distinct_captions(["A plate of food.", "a plate of food", "a plate of fruit"], ["x"] * 3)
    assert (found.value, found.resampled) == (2, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", BRAINHUB)
def test_scores_are_those_of_brainhubs_table(name: str) -> None:
    """`BRAINHUB_FOLDER` names a clone of weihaox/BrainHub; without it the test is skipped."""
    folder = os.environ.get("BRAINHUB_FOLDER")
    if not folder:
        pytest.skip("BRAINHUB_FOLDER names no clone of weihaox/BrainHub")
    captions = Path(folder) / "caption"
    every = json.loads((captions / "fmri_cococap.json").read_bytes())
    predicted = json.loads((captions / "comparison" / f"{name}_decoded_caption.json").read_bytes())
    pairs = list(predicted.values()), [every[image] for image in predicted]
    found = [bleu(*pairs, n=1).value, bleu(*pairs, n=4).value]
    found += [metric(*pairs).mean().item() for metric in (rouge_coco_per_image, cider_per_image)]
    assert [100 * value for value in found] == pytest.approx(BRAINHUB[name], abs=0.04)
