import pickle

import pytest
import torch

from mindeye_pl.metrics.captions import similarity as captions
from mindeye_pl.metrics.captions.meteor import meteor_per_image
from mindeye_pl.metrics.captions.streaming import Meteor, Rouge, SentenceSimilarity, TextSimilarity, WordOverlap
from tests.metrics.captions.test_meteor import SMALL
from tests.metrics.captions.test_scores import PREDICTED, REFERENCES, SHORT
from tests.metrics.captions.test_similarity import count_letters

BOTH = [list(pair) for pair in zip(SHORT, REFERENCES, strict=True)]


@pytest.mark.parametrize("several", ["best", "mean", "first"])
def test_streaming_in_batches_equals_the_whole(several: str) -> None:
    metrics = {
        Meteor(SMALL, several=several): meteor_per_image(PREDICTED, BOTH, wordnet=SMALL, several=several),
        Rouge(several=several): captions.rouge_per_image(PREDICTED, BOTH, several=several),
        Rouge("rougeL", several=several): captions.rouge_per_image(PREDICTED, BOTH, kind="rougeL", several=several),
        WordOverlap(several=several): captions.word_overlap_per_image(PREDICTED, BOTH, several=several),
        TextSimilarity(count_letters, several=several): captions.text_similarity_per_image(
            PREDICTED, BOTH, embedder=count_letters, several=several
        ),
        SentenceSimilarity(count_letters, several=several): captions.sentence_similarity_per_image(
            PREDICTED, BOTH, embedder=count_letters, several=several
        ),
    }
    for metric, whole in metrics.items():
        assert metric.higher_is_better
        for start in range(0, len(PREDICTED), 17):
            metric.update(PREDICTED[start : start + 17], BOTH[start : start + 17])
        torch.testing.assert_close(metric.per_image(), whole, rtol=0, atol=1e-12)
        assert metric.compute().item() == pytest.approx(whole.mean().item())
        metric.reset()
        assert metric(PREDICTED[:3], BOTH[:3]).item() == pytest.approx(whole[:3].mean().item())


def test_embedder_weights_are_not_part_of_the_state() -> None:
    network = torch.nn.Linear(3, 3)
    metric = TextSimilarity(lambda texts: network(torch.ones(len(texts), 3)))
    metric.update(["a"], ["b"])
    assert list(metric.parameters()) == []
    assert metric.state_dict() == {}
    module = torch.nn.Sequential(network)
    assert list(TextSimilarity(module).parameters()) == []
    assert pickle.loads(pickle.dumps(Rouge("rougeL"))).compute is not None
