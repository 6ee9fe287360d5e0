"""SEED and its parts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.metrics.named_objects import COCO_CATEGORIES, named_objects
from mindeye_pl.metrics.seed import detected_categories, object_f1_per_image, seed_per_image

SETS = st.frozensets(st.sampled_from("abcdef"))


def test_object_f1_by_hand() -> None:
    found = [{"cat", "dog"}, {"cat"}, {"cat"}, set(), set()]
    seen = [{"cat"}, {"cat"}, {"dog"}, {"dog"}, set()]
    assert object_f1_per_image(found, seen).tolist() == pytest.approx([2 / 3, 1, 0, 0, 0])


@given(SETS, SETS)
def test_object_f1_is_the_harmonic_mean_of_precision_and_recall(a: frozenset, b: frozenset) -> None:
    (score,) = object_f1_per_image([a], [b]).tolist()
    assert score == object_f1_per_image([b], [a]).item()
    if a & b:
        precision, recall = len(a & b) / len(a), len(a & b) / len(b)
        assert score == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert score == 0


def test_detections_count_from_the_threshold_on() -> None:
    scores = torch.tensor([[0.2, 0.3], [0.9, 0.29], [0.0, 0.0]])
    assert detected_categories(scores, ["cat", "dog"], 0.3) == [{"dog"}, {"cat"}, frozenset()]


def test_captions_name_categories_in_any_form() -> None:
    captions = [
        "Two men riding motorbikes past a Bus.",
        "a hot dog and a teddy bear on a dining table",
        "a dog, a bear",
        "buses and wine glasses",
        "an education in carpets",
    ]
    expected = [{"person", "motorcycle", "bus"}, {"hot dog", "teddy bear", "dining table"}]
    expected += [{"dog", "bear"}, {"bus", "wine glass"}, set()]
    assert named_objects(captions, COCO_CATEGORIES) == expected
    assert named_objects(["a red star above two hearts"], ["star", "heart"]) == [{"star", "heart"}]
    assert len(set(COCO_CATEGORIES)) == 80


def test_seed_is_the_mean_of_three_similarities() -> None:
    f1, similarity, distance = (torch.tensor(values) for values in ([1.0, 0.5], [1.0, 0.2], [0.0, 0.7]))
    assert seed_per_image(f1, similarity, distance).tolist() == pytest.approx([1, (0.5 + 0.2 + 0.3) / 3])
