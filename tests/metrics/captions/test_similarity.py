"""Caption similarity: values by hand, reference implementations, and errors."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import paired_cosine_distances

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.meteor import meteor_per_image
from mindeye_pl.metrics.captions.similarity import (
    CachedEmbedder,
    rouge_per_image,
    text_similarity_per_image,
    word_overlap_per_image,
)
from tests.metrics.captions.test_meteor import SMALL
from tests.metrics.rouge_reference import RougeScorer

WORDS = ["cat", "sky", "tree", "lamp", "boat", "horn", "desk", "milk"]

sentences = st.lists(st.sampled_from([*WORDS, "a", "The", "red-brown", "3", ","]), min_size=1, max_size=9).map(" ".join)


def count_letters(texts: Sequence[str]) -> torch.Tensor:
    """Count the letters of each text: an embedder without weights."""
    return torch.tensor([[float(text.lower().count(letter)) for letter in "abcdefghijklmnop"] for text in texts])


@given(sentences, sentences)
@settings(max_examples=80, deadline=None)
def test_rouge_equals_google_rouge(predicted: str, reference: str) -> None:
    expected = RougeScorer(["rouge1", "rougeL"], use_stemmer=False).score(reference, predicted)
    for kind, score in expected.items():
        assert rouge_per_image([predicted], [reference], kind=kind).item() == pytest.approx(score.fmeasure, abs=1e-6)


def test_rouge_by_hand() -> None:
    predicted, reference = "the cat sat on the mat", "on the mat sat the old cat"
    assert rouge_per_image([predicted], [reference]).item() == pytest.approx(2 * 6 / 13, abs=1e-6)
    assert rouge_per_image([predicted], [reference], kind="rougeL").item() == pytest.approx(2 * 3 / 13, abs=1e-6)
    assert rouge_per_image(["", "dog"], ["dog", "..."]).tolist() == [0, 0]
    # The published evaluation uses no stemmer.
    assert rouge_per_image(["dogs"], ["dog"]).item() == 0


def test_reductions_over_several_references() -> None:
    references = ["a lamp", "a milk desk", "milk desk and boat"]
    scorer = RougeScorer(["rouge1"])
    each = [scorer.score(reference, "a milk desk boat")["rouge1"].fmeasure for reference in references]
    best = scorer.score_multi(references, "a milk desk boat")["rouge1"].fmeasure
    for several, expected in (("best", best), ("mean", np.mean(each)), ("first", each[0])):
        both = rouge_per_image(["a milk desk boat", "a tree"], [references, "a tree"], several=several)
        assert both.tolist() == pytest.approx([expected, 1], abs=1e-6)
    for function, options in (
        (meteor_per_image, {"wordnet": SMALL}),
        (word_overlap_per_image, {}),
        (text_similarity_per_image, {"embedder": count_letters}),
    ):
        alone = torch.cat([function(["milk desk boat"], [reference], **options) for reference in references])
        for several, expected in (("best", alone.max()), ("mean", alone.mean()), ("first", alone[0])):
            found = function(["milk desk boat"], [references], several=several, **options)
            assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_word_overlap_counts_content_words() -> None:
    reference = "A large red disc to the left of a small blue star, on a background fading from red to green."
    assert word_overlap_per_image([reference.upper()], [reference]) == 1
    assert word_overlap_per_image(["a disc is at the left"], ["Disc to the left of it."]) == 1
    # Of large, red, disc, left, small, blue, star, background, fading, red, green, four occur, red twice.
    assert word_overlap_per_image(["a red red star and a red disc"], [reference]).item() == pytest.approx(
        2 * 4 / (5 + 11)
    )
    assert word_overlap_per_image(["a medium-sized disc"], ["a medium disc"]).item() == pytest.approx(0.5)
    assert word_overlap_per_image(["the of", "", "a disc"], ["the of", "", "the of"]).tolist() == [0, 0, 0]


@given(st.permutations(["a", "small", "red", "disc", "above", "two", "green", "stars"]))
@settings(max_examples=20, deadline=None)
def test_word_overlap_ignores_word_order(words: list[str]) -> None:
    reference = "Two small green discs above a red star"
    assert word_overlap_per_image([" ".join(words)], [reference]) == word_overlap_per_image(
        ["a small red disc above two green stars"], [reference]
    )


def test_text_similarity_equals_sklearn() -> None:
    predicted, references = ["a milk boat", "lamp", "zzz"], ["a red boat", "lamp lamp", "lamp"]
    found = text_similarity_per_image(predicted, references, embedder=count_letters)
    expected = 1 - paired_cosine_distances(count_letters(predicted).double(), count_letters(references).double())
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-12)
    assert found.dtype == torch.float64
    assert found[1].item() == pytest.approx(1)
    assert found[2] == 0  # an embedding of length 0 has similarity 0


def test_each_sentence_is_embedded_once() -> None:
    asked: list[str] = []

    def counting(texts: Sequence[str]) -> torch.Tensor:
        asked.extend(texts)
        return count_letters(texts)

    cached = CachedEmbedder(counting)
    first = text_similarity_per_image(["lamp", "lamp", "desk"], [["lamp", "boat"], "desk", "desk"], embedder=cached)
    again = text_similarity_per_image(["lamp", "lamp", "desk"], [["lamp", "boat"], "desk", "desk"], embedder=cached)
    uncached = text_similarity_per_image(
        ["lamp", "lamp", "desk"], [["lamp", "boat"], "desk", "desk"], embedder=count_letters
    )
    assert first.tolist() == again.tolist() == uncached.tolist()
    assert sorted(asked) == ["boat", "desk", "lamp"]


def test_embedding_with_nan_raises_an_error_with_the_caption() -> None:
    with pytest.raises(UserError, match=r"contains NaN or infinity .*'milk'"):
        text_similarity_per_image(
            ["lamp", "milk"],
            ["lamp", "lamp"],
            embedder=lambda t: count_letters(t) / torch.tensor([1, 0][: len(t)])[:, None],
        )


@given(st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_caption_scores_do_not_depend_on_image_order(order: list[int]) -> None:
    predicted = [f"a {word} on the {other}" for word, other in zip(WORDS, WORDS[3:], strict=False)]
    references = [[f"the {word}", f"a {word} on a {other}"] for word, other in pairwise(WORDS)][:5]
    functions = (
        lambda *pair: meteor_per_image(*pair, wordnet=SMALL),
        rouge_per_image,
        word_overlap_per_image,
        lambda *pair: text_similarity_per_image(*pair, embedder=count_letters),
    )
    for function in functions:
        reordered = function(predicted, references)[list(order)]
        moved = function([predicted[i] for i in order], [references[i] for i in order])
        torch.testing.assert_close(reordered, moved, rtol=0, atol=1e-12)
        own = function([own[1] for own in references], [own[1] for own in references])
        assert (own >= reordered - 1e-12).all()


@pytest.mark.parametrize(
    ("predicted", "references", "message"),
    [
        ([], [], "no captions to score"),
        (["a"], ["a", "b"], "differ in number .*1 predicted captions and references of 2 images"),
        (["a", 3], ["a", "b"], "predicted caption 1 is not a string .*int 3"),
        (["a", "b"], ["a", None], "reference caption 1 is not a string .*NoneType"),
        (["a", "b"], ["a", ["b", b"c"]], "reference 1 of image 1 is not a string .*bytes"),
        (["a", "b"], ["a", []], "image 1 has no reference caption"),
        ("a dog", ["a"], "predicted is a single string .*'a dog'"),
        (["a"], "a dog", "references is a single string"),
    ],
)
def test_invalid_captions_are_refused(predicted: list[str], references: list[str], message: str) -> None:
    for function, options in (
        (meteor_per_image, {"wordnet": SMALL}),
        (rouge_per_image, {}),
        (word_overlap_per_image, {}),
        (text_similarity_per_image, {"embedder": count_letters}),
    ):
        with pytest.raises(UserError, match=message) as found:
            function(predicted, references, **options)
        assert "\n" not in str(found.value)


def test_captions_may_be_numpy_strings() -> None:
    """Published files hold arrays of numpy strings."""
    predicted, references = np.array(["a lamp", "a desk"]), np.array([["a lamp", "b"], ["a boat", "a desk"]])
    assert word_overlap_per_image(predicted, references).mean() == 1
    assert rouge_per_image(predicted, references[:, 0]).mean().item() == pytest.approx(0.75)
    assert meteor_per_image(predicted, references, wordnet=SMALL).mean().item() == pytest.approx(1 - 0.5 / 2**3)


def test_import_does_not_load_heavy_libraries() -> None:
    heavy = ("nltk", "torchmetrics", "transformers", "scipy")
    code = f"import sys, mindeye_pl.metrics.captions.scores; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
