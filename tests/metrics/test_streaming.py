import pytest
import torch

from mindeye_pl.metrics.retrieval import brain_retrieval, image_retrieval, retrieval_accuracy
from mindeye_pl.metrics.streaming import BrainRetrieval, ImageRetrieval, RetrievalAccuracy


def test_batches_score_as_their_whole() -> None:
    clip = torch.randn(30, 3, 4, generator=torch.Generator().manual_seed(0))
    brain = clip + 2 * torch.randn(30, 3, 4, generator=torch.Generator().manual_seed(1))
    metrics = ImageRetrieval(), BrainRetrieval(top_k=3)
    for part in torch.arange(30).split(7):
        for metric in metrics:
            metric.update(brain[part], clip[part])
    assert metrics[0].compute() == image_retrieval(brain=brain, clip=clip)
    assert metrics[1].compute() == brain_retrieval(brain=brain, clip=clip, top_k=3)
    metrics[0].reset()
    assert metrics[0](brain[:5], clip[:5]) == image_retrieval(brain=brain[:5], clip=clip[:5])


def test_higher_is_better_stands_on_the_class() -> None:
    assert RetrievalAccuracy.higher_is_better
    metric = RetrievalAccuracy()
    metric.update(query=torch.eye(4), gallery=torch.eye(4))
    assert metric.compute() == retrieval_accuracy(query=torch.eye(4), gallery=torch.eye(4)) == pytest.approx(1)
