"""Gallery recall, its chance level and pool size."""

import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import gallery_recall_per_image, gallery_recall_scores, hit_rates, nearest
from mindeye_pl.metrics.statistics.intervals import wilson_interval

INDICES = np.array([[4, 2, 9], [1, 0, -1], [3, 8, 7], [-1, -1, -1]])
TRUTH = np.array([4, 0, 5, 2])


def test_gallery_recall_by_hand() -> None:
    assert [gallery_recall_per_image(INDICES, TRUTH, k).mean() for k in (1, 2, 3)] == [0.25, 0.5, 0.5]


def test_gallery_recall_of_a_full_ranking_is_image_retrieval() -> None:
    import torch

    similarity = torch.randn(30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    indices = nearest(similarity, 30).numpy()
    for k in (1, 3, 10):
        assert gallery_recall_per_image(indices, np.arange(30), k).mean() == pytest.approx(
            float(hit_rates(similarity, k).mean())
        )


def test_gallery_recall_scores_have_chance_pool_and_interval() -> None:
    one, three = gallery_recall_scores(INDICES, TRUTH, pool_size=50, top_k=(1, 3))
    assert (one.name, one.value, one.chance, one.pool_size, one.num_images) == ("gallery_recall_1", 0.25, 0.02, 50, 4)
    assert one.interval == pytest.approx(wilson_interval(1, 4))
    assert (three.name, three.chance) == ("gallery_recall_3", 0.06)


@pytest.mark.parametrize("top_k", [(), (0,), (1, 4)])
def test_top_k_out_of_range_is_refused(top_k: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="expected: 1 to 3"):
        gallery_recall_scores(INDICES, TRUTH, pool_size=50, top_k=top_k)
