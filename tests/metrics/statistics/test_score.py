import json

import pytest

from mindeye_pl.metrics.statistics.score import Score


@pytest.mark.parametrize("interval", [None, (0.4, 0.6)])
def test_score_survives_json(interval: tuple[float, float] | None) -> None:
    score = Score("image_retrieval", 0.5, chance=1 / 300, pool_size=300, num_images=982, interval=interval)
    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score
