"""METEOR: values by hand, and loading of WordNet."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nltk
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.corpus import wordnet as nltk_wordnet

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.meteor import meteor_per_image, meteor_words, missing_wordnet_message, read_wordnet

WORDS = ["cat", "sky", "tree", "lamp", "boat", "horn", "desk", "milk"]


class TinyWordNet:
    """WordNet with a few words and their synonyms."""

    def __init__(self, *meanings: str):
        self.meanings = [meaning.split() for meaning in meanings]

    def synsets(self, lemma: str) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(lemmas=lambda meaning=meaning: [SimpleNamespace(name=lambda n=n: n) for n in meaning])
            for meaning in self.meanings
            if lemma in meaning
        ]


SMALL = TinyWordNet("small little", "bike bicycle bicycle_ride")


def test_meteor_by_hand() -> None:
    predicted, reference = "A big dog runs", "a large dog is running"
    # a and dog are equal, runs and running have one stem, big means large: 4 matches in 2 chunks.
    by_hand = (1 - 0.5 * (2 / 4) ** 3) * (1 * 0.8) / (0.9 * 1 + 0.1 * 0.8)
    both = TinyWordNet("big large", "big larg")  # the stem of large is larg
    assert meteor_per_image([predicted], [reference], wordnet=both).item() == pytest.approx(by_hand, abs=1e-12)
    # Without the synonym 3 matches in 3 chunks.
    by_hand = (1 - 0.5) * (0.75 * 0.6) / (0.9 * 0.75 + 0.1 * 0.6)
    assert meteor_per_image([predicted], [reference], wordnet=TinyWordNet()).item() == pytest.approx(by_hand, abs=1e-12)


def test_synonyms_are_looked_up_by_stems() -> None:
    """NLTK looks up the stems "bicycl" and "littl", which WordNet does not contain."""
    pairs = (["a little bicycle", "small bikes"], ["a small bike", "little bicycles"])
    found = meteor_per_image(*pairs, wordnet=SMALL)
    assert found.tolist() == pytest.approx([0.5 / 3, 0])  # only the article matches


@given(st.permutations(WORDS), st.permutations(WORDS), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_meteor_of_unique_words_equals_the_formula(first: list[str], second: list[str], num: int, other: int) -> None:
    first, second = first[:num], second[:other]
    positions = [second.index(word) if word in second else None for word in first]
    matches = sum(position is not None for position in positions)
    chunks = sum(
        position is not None and (i == 0 or positions[i - 1] is None or positions[i - 1] != position - 1)
        for i, position in enumerate(positions)
    )
    expected = 0.0
    if matches:
        precision, recall = matches / num, matches / other
        expected = precision * recall / (0.9 * precision + 0.1 * recall) * (1 - 0.5 * (chunks / matches) ** 3)
    score = meteor_per_image([" ".join(first)], [" ".join(second)], wordnet=TinyWordNet())
    assert score.item() == pytest.approx(expected, abs=1e-12)


def test_meteor_of_identical_and_empty_captions() -> None:
    texts = ["a man rides a bike", "", "!"]
    scores = meteor_per_image(texts, ["a man rides a bike", "a man rides a bike", ""], wordnet=SMALL)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx([1 - 0.5 / 5**3, 0, 0])


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's hat, on a table.", ["A", "man", "'s", "hat", ",", "on", "a", "table", "."]),
        ("Two dogs play.  They don't stop!", ["Two", "dogs", "play", ".", "They", "do", "n't", "stop", "!"]),
        (" a medium-sized (red) disc ", ["a", "medium-sized", "(", "red", ")", "disc"]),
        ("it is 3.5 m wide", ["it", "is", "3.5", "m", "wide"]),
        ("", []),
    ],
)
def test_meteor_words_equal_word_tokenize(caption: str, words: list[str]) -> None:
    assert meteor_words(caption) == words


@pytest.fixture
def nltk_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder for NLTK's corpora, with an unloaded reader."""
    nltk_wordnet._unload()
    tmp_path.chmod(0o700)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    yield tmp_path
    nltk_wordnet._unload()


def test_missing_wordnet_error_names_the_download_command(nltk_data: Path) -> None:
    assert missing_wordnet_message() == "needs wordnet: python -m nltk.downloader wordnet omw-1.4"
    with pytest.raises(UserError, match=r"needs WordNet.*python -m nltk.downloader wordnet omw-1.4") as found:
        meteor_per_image(["a dog"], ["a dog"])
    assert "\n" not in str(found.value)


def test_wordnet_is_read_from_the_nltk_folder(nltk_data: Path) -> None:
    folder = nltk_data / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"WordNet files are damaged.*python -m nltk.downloader"):
        read_wordnet()
    for name in ("cntlist.rev", "index.sense", *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb"))):
        (folder / name).touch()
    (folder / "lexnames").write_text("00\tnoun.artifact\t1\n")
    for part in ("adj", "adv", "noun", "verb"):
        (folder / f"index.{part}").write_text("  1 licence\n")
        (folder / f"data.{part}").write_text("  1 licence\n")
    head = "  1 licence\n"
    (folder / "data.noun").write_text(f"{head}{len(head):08d} 00 n 02 car 0 automobile 0 000 | with wheels\n")
    (folder / "index.noun").write_text(
        head + "".join(f"{word} n 1 0 1 0 {len(head):08d}\n" for word in ("automobile", "car"))
    )
    assert missing_wordnet_message() is None
    (meaning,) = read_wordnet().synsets("automobile")
    assert [lemma.name() for lemma in meaning.lemmas()] == ["car", "automobile"]
    assert meteor_per_image(["a red cars"], ["a red car"]).item() == pytest.approx(1 - 0.5 / 3**3)
