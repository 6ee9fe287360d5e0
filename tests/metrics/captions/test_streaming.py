import pickle

import pytest
import torch

from mindeye_pl.metrics.captions import similarity as captions
from mindeye_pl.metrics.captions.meteor import meteor_of_each
from mindeye_pl.metrics.captions.streaming import Meteor, Rouge, SentenceSimilarity, TextSimilarity, WordOverlap
from tests.metrics.test_caption_scores import PREDICTED, REFERENCES, SHORT
from tests.metrics.test_captions import bag
from tests.metrics.test_meteor import SMALL

BOTH = [list(pair) for pair in zip(SHORT, REFERENCES, strict=True)]


@pytest.mark.parametrize("several", ["best", "mean", "first"])
def test_batches_score_as_their_whole(several: str) -> None:
    metrics = {
        Meteor(SMALL, several=several): meteor_of_each(PREDICTED, BOTH, wordnet=SMALL, several=several),
        Rouge(several=several): captions.rouge_of_each(PREDICTED, BOTH, several=several),
        Rouge("rougeL", several=several): captions.rouge_of_each(PREDICTED, BOTH, kind="rougeL", several=several),
        WordOverlap(several=several): captions.word_overlap_of_each(PREDICTED, BOTH, several=several),
        TextSimilarity(bag, several=several): captions.text_similarity_of_each(
            PREDICTED, BOTH, embedder=bag, several=several
        ),
        SentenceSimilarity(bag, several=several): captions.sentence_similarity_of_each(
            PREDICTED, BOTH, embedder=bag, several=several
        ),
    }
    for metric, whole in metrics.items():
        assert metric.higher_is_better
        for start in range(0, len(PREDICTED), 17):
            metric.update(PREDICTED[start : start + 17], BOTH[start : start + 17])
        torch.testing.assert_close(metric.of_each(), whole, rtol=0, atol=1e-12)
        assert metric.compute().item() == pytest.approx(whole.mean().item())
        metric.reset()
        assert metric(PREDICTED[:3], BOTH[:3]).item() == pytest.approx(whole[:3].mean().item())


def test_weights_of_an_embedder_are_no_part_of_the_state() -> None:
    network = torch.nn.Linear(3, 3)
    metric = TextSimilarity(lambda texts: network(torch.ones(len(texts), 3)))
    metric.update(["a"], ["b"])
    assert list(metric.parameters()) == []
    assert metric.state_dict() == {}
    module = torch.nn.Sequential(network)
    assert list(TextSimilarity(module).parameters()) == []
    assert pickle.loads(pickle.dumps(Rouge("rougeL"))).compute is not None
