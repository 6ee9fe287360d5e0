"""The three published comparisons of captions, and their ratio."""

import numpy as np
import pytest
import torch

from mindeye_pl.data.simulated.scenes import captions, draw_scene
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.coco_caption import CorpusScore
from mindeye_pl.metrics.captions.scores import (
    CEILING,
    PREDICTED_IMAGE,
    PREDICTED_REFERENCE,
    RELATIVE,
    caption_metrics,
    caption_scores,
)
from mindeye_pl.metrics.captions.similarity import rouge_per_image, word_overlap_per_image
from tests.metrics.captions.test_meteor import SMALL
from tests.metrics.captions.test_similarity import count_letters

SCENES = [captions(draw_scene(np.random.default_rng(seed))) for seed in range(60)]
REFERENCES = [full for full, _ in SCENES]
SHORT = [short for _, short in SCENES]
#: Captions with missing words; in every third caption a colour is wrong instead.
PREDICTED = [
    " ".join(word for i, word in enumerate(text.split()) if i % 3) if seed % 3 else text.replace("red", "blue")
    for seed, text in enumerate(REFERENCES)
]


def test_caption_scores_compare_the_published_pairs() -> None:
    metrics = caption_metrics(wordnet=SMALL, embedders={"letters": count_letters})
    assert list(metrics) == ["meteor", "rougeL", "rouge1", "letters", "word_overlap", "distinct"]
    assert "meteor" not in caption_metrics()
    scores = caption_scores(PREDICTED, SHORT, REFERENCES, metrics, num_resamples=200)
    assert set(scores) == {PREDICTED_REFERENCE, PREDICTED_IMAGE, CEILING, RELATIVE}
    by_name = {pair: {score.name: score for score in rows} for pair, rows in scores.items()}
    for pair, (first, second) in {
        PREDICTED_REFERENCE: (PREDICTED, REFERENCES),
        PREDICTED_IMAGE: (PREDICTED, SHORT),
        CEILING: (SHORT, REFERENCES),
    }.items():
        assert list(by_name[pair]) == list(metrics)
        score = by_name[pair]["word_overlap"]
        assert score.value == pytest.approx(word_overlap_per_image(first, second).mean().item())
        assert by_name[pair]["rougeL"].value == pytest.approx(
            rouge_per_image(first, second, kind="rougeL").mean().item()
        )
        assert (score.chance, score.pool_size, score.num_images, score.higher_is_better) == (None, None, 60, True)
        assert score.interval is not None
        assert score.interval[0] < score.value < score.interval[1]
    assert list(by_name[RELATIVE]) == [name for name in metrics if name != "distinct"]
    for name in by_name[RELATIVE]:
        expected = by_name[PREDICTED_IMAGE][name].value / by_name[CEILING][name].value
        relative = by_name[RELATIVE][name]
        assert relative.value == pytest.approx(expected)
        assert relative.interval is not None
        assert relative.interval[0] < relative.value < relative.interval[1]


def test_relative_score_equals_the_published_table() -> None:
    """METEOR is .3437 against the caption of the true image, the ceiling is .4197, the table prints .819."""

    def recorded(predicted: list[str], references: list[str]) -> torch.Tensor:
        value = {("brain", "image"): 0.3437, ("image", "person"): 0.4197, ("brain", "person"): 0.2482}
        return torch.full((4,), value[predicted[0], references[0]], dtype=torch.float64)

    scores = caption_scores(["brain"] * 4, ["image"] * 4, ["person"] * 4, {"meteor": recorded}, num_resamples=10)
    assert round(scores[RELATIVE][0].value, 3) == 0.819
    assert scores[PREDICTED_REFERENCE][0].value == pytest.approx(0.2482)
    assert scores[RELATIVE][0].interval == pytest.approx((0.3437 / 0.4197,) * 2)


def test_ceiling_of_zero_yields_nan() -> None:
    scores = caption_scores(["lamp"], ["desk"], ["boat"], caption_metrics(), num_resamples=10)
    assert np.isnan(scores[RELATIVE][0].value)
    assert scores[RELATIVE][0].interval is None


def test_without_captioner_there_is_one_pair() -> None:
    scores = caption_scores(PREDICTED, None, REFERENCES, caption_metrics(), num_resamples=10)
    assert list(scores) == [PREDICTED_REFERENCE]


def test_captions_of_other_images_score_lower() -> None:
    metrics = caption_metrics(wordnet=SMALL, embedders={"letters": count_letters})
    for name, metric in metrics.items():
        own, other = metric(PREDICTED, REFERENCES), metric(PREDICTED[1:] + PREDICTED[:1], REFERENCES)
        if isinstance(own, CorpusScore):
            assert name == "distinct"
            continue
        assert isinstance(other, torch.Tensor)
        assert own.shape == (60,)
        assert own.dtype == torch.float64
        assert own.mean() > other.mean() + 0.05, name


def test_interval_of_the_ratio_covers_the_truth() -> None:
    """Draw 80 images 100 times with a ratio of means of 0.8."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        ceiling = torch.from_numpy(rng.uniform(0.3, 0.7, 80))
        values = torch.from_numpy(0.8 * ceiling.numpy() + 0.1 * rng.standard_normal(80))

        def drawn(predicted: list[str], references: list[str], ceiling=ceiling, values=values) -> torch.Tensor:
            return values if references[0] == "image" else ceiling

        scores = caption_scores(["b"] * 80, ["image"] * 80, ["r"] * 80, {"m": drawn}, num_resamples=200)
        low, high = scores[RELATIVE][0].interval
        covered += low <= 0.8 <= high
    assert 0.87 <= covered / 100 <= 1


def test_captions_that_differ_in_number_are_refused() -> None:
    with pytest.raises(UserError, match="3 predicted captions and references of 2 images"):
        caption_scores(["a"] * 3, ["a"] * 2, ["a"] * 3, caption_metrics())


def test_bleu_has_an_interval_over_images_and_no_ratio() -> None:
    metrics = caption_metrics(coco=True)
    assert list(metrics)[-6:] == [*(f"brainhub_bleu{n}" for n in range(1, 5)), "brainhub_rouge", "brainhub_cider"]
    scores = caption_scores(PREDICTED, SHORT, REFERENCES, metrics, num_resamples=200)
    of_brain = {score.name: score for score in scores[PREDICTED_REFERENCE]}
    for n in range(1, 5):
        score = of_brain[f"brainhub_bleu{n}"]
        assert score.interval is not None
        assert score.interval[0] < score.value < score.interval[1]
    assert of_brain["distinct"].interval is None
    assert [score.name for score in scores[RELATIVE]] == [
        *("rougeL", "rouge1", "word_overlap", "brainhub_rouge", "brainhub_cider")
    ]
