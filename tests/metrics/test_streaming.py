from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mindeye_pl.metrics import effective_rank, identification, pixels, retrieval, streaming
from mindeye_pl.metrics.streaming import (
    SSIM,
    BrainRetrieval,
    CorrelationDistance,
    EffectiveRank,
    EffectiveRankRatio,
    ImageMetric,
    ImageRetrieval,
    NWayIdentification,
    PixCorr,
    RetrievalAccuracy,
    TwoWayIdentification,
)

NUM = 24

#: Each class and its function, on two sets of images or features.
ON_IMAGES: dict[str, tuple[Callable[[], ImageMetric], Callable[[Tensor, Tensor], Tensor]]] = {
    "pixcorr": (lambda: PixCorr(size=None), lambda a, b: pixels.pixcorr(a, b, size=None)),
    "ssim": (lambda: SSIM(size=16), lambda a, b: pixels.ssim(a, b, size=16)),
    "ssim, torchmetrics": (
        lambda: SSIM(size=None, form="torchmetrics"),
        lambda a, b: pixels.ssim(a, b, size=None, form="torchmetrics"),
    ),
}
ON_FEATURES: dict[str, tuple[Callable[[], ImageMetric], Callable[[Tensor, Tensor], Tensor]]] = {
    "distance": (CorrelationDistance, identification.correlation_distance),
    "two-way": (TwoWayIdentification, lambda a, b: identification.two_way_identification(query=a, gallery=b)),
    "two-way, paper": (
        lambda: TwoWayIdentification("paper"),
        lambda a, b: identification.two_way_identification(query=a, gallery=b, direction="paper"),
    ),
    "n-way": (
        lambda: NWayIdentification(n=10, top_k=3),
        lambda a, b: identification.n_way_identification(query=a, gallery=b, n=10, top_k=3),
    ),
    "n-way of all": (
        NWayIdentification,
        lambda a, b: identification.n_way_identification(query=a, gallery=b, n=NUM),
    ),
    "image": (ImageRetrieval, lambda a, b: retrieval.image_retrieval(brain=a, clip=b)),
    "brain": (lambda: BrainRetrieval(top_k=3), lambda a, b: retrieval.brain_retrieval(brain=a, clip=b, top_k=3)),
    "rank ratio": (EffectiveRankRatio, effective_rank.effective_rank_ratio),
}


@pytest.mark.parametrize("name", [*ON_IMAGES, *ON_FEATURES])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_streaming_does_not_depend_on_batches_and_order(name: str, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (NUM, 3, 12, 12) if name in ON_IMAGES else (NUM, 3, 4)
    second = torch.rand(shape, generator=generator)
    first = (second + 0.4 * torch.randn(shape, generator=generator)).clamp(0, 1)
    make, function = (ON_IMAGES | ON_FEATURES)[name]
    metric, whole = make(), function(first, second).item()
    assert whole > 0.05
    for _ in range(2):
        for part in torch.randperm(NUM, generator=generator).split(batch_size):
            metric.update(first[part], second[part])
        assert metric.compute().item() == pytest.approx(whole, abs=1e-6)
        metric.reset()


def test_streaming_effective_rank() -> None:
    tokens, metric = torch.randn(20, 3, 30), EffectiveRank()
    for part in tokens.split(6):
        metric.update(part)
    assert metric.compute().item() == pytest.approx(effective_rank.effective_rank(tokens).item())


def test_per_image_values_keep_their_order() -> None:
    first, second = torch.rand(2, 6, 3, 16, 16)
    metric = PixCorr(size=None)
    for part in (slice(0, 4), slice(4, 6)):
        metric.update(first[part], second[part])
    torch.testing.assert_close(metric.per_image(), pixels.pixcorr_per_image(first, second, size=None))


def test_metrics_have_direction_chance_and_pool_size() -> None:
    features = torch.randn(8, 5)
    assert not CorrelationDistance.higher_is_better
    others = PixCorr, SSIM, TwoWayIdentification, NWayIdentification, ImageRetrieval, BrainRetrieval, EffectiveRank
    assert all(metric.higher_is_better for metric in others)
    assert (PixCorr().chance, PixCorr().pool_size) == (None, None)
    assert (TwoWayIdentification().chance, TwoWayIdentification().pool_size) == (0.5, 2)
    assert (NWayIdentification(n=50, top_k=5).chance, NWayIdentification(n=50).pool_size) == (0.1, 50)
    for metric in (NWayIdentification(top_k=2), RetrievalAccuracy(top_k=2)):
        assert (metric.chance, metric.pool_size) == (None, None)
        metric.update(features, features)
        assert (metric.chance, metric.pool_size) == (2 / 8, 8)
        assert metric.compute() == pytest.approx(1)
        metric.reset()
        assert metric.pool_size is None


def test_metric_called_on_one_batch() -> None:
    brain, clip = torch.randn(2, 5, 4)
    assert ImageRetrieval()(brain, clip) == retrieval.image_retrieval(brain=brain, clip=clip)


def test_every_class_names_its_function() -> None:
    bases = (ImageMetric, streaming.MeanOverImages, streaming.PairedEmbeddings)
    classes = [c for c in vars(streaming).values() if isinstance(c, type) and issubclass(c, ImageMetric)]
    for metric in (c for c in classes if c not in bases):
        module, name = (metric.__doc__ or "").split("`")[1].split(".")
        owner = {"pixels": pixels, "identification": identification, "retrieval": retrieval}.get(module, effective_rank)
        assert name.replace("_", "") == metric.__name__.lower()
        assert callable(getattr(owner, name))
