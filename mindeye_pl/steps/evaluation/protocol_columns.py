"""Columns of a protocol: what it asks of the pixels and of each network, by agreement with people."""

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from mindeye_pl.metrics.human_agreement import by_agreement, with_agreement
from mindeye_pl.metrics.images import (
    LPIPS_METRIC,
    PIXEL_METRICS,
    TableMetric,
    distance_metric,
    n_way_metric,
    set_metrics,
    two_way_metrics,
)

#: The network by which a protocol asks for the CLIP of the experiment's own embedder, and its one layer.
EMBEDDER = "embedder"
#: Remark on its columns.
_OWN = "The network is the target embedder of the run."


@dataclass(frozen=True)
class NWayQuestion:
    """A question among n images.

    Attributes:
        n: images, the right one among them.
        top_k: rank that counts as found.
        others: other images of the data set are candidates too.
    """

    n: int
    top_k: int
    others: bool


def protocol_metrics(protocol: DictConfig, num_images: int, num_others: int = 0) -> list[TableMetric]:
    """Return the metrics of a protocol, in the order of the table.

    Args:
        protocol: node of the configuration.
        num_images: test images.
        num_others: other images of the data set that can be candidates.
    """
    metrics = [with_agreement(metric, metric.name) for metric in PIXEL_METRICS]
    for name in protocol.networks:
        metrics += metrics_of(protocol, name, num_images, num_others)
    return by_agreement([*metrics, *([LPIPS_METRIC] if protocol.lpips else [])])


def metrics_of(protocol: DictConfig, name: str, num_images: int, num_others: int) -> list[TableMetric]:
    """Return the metrics of a protocol that use one network."""
    settings = protocol.networks[name]
    title, layer = settings.title, settings.layer
    metrics: list[TableMetric] = []
    if name in protocol.two_way:
        published, paper = two_way_metrics(name, title)
        metrics += [with_agreement(published, f"{layer}_two_way"), paper]
    for question in n_way_questions(protocol, name, num_images, num_others):
        metrics.append(n_way_metric(name, title, n=question.n, top_k=question.top_k))
    if name in protocol.distance:
        metrics.append(with_agreement(distance_metric(name, title), f"{layer}_distance"))
    metrics += set_metrics(title, num_images) if protocol.fid == name else []
    if settings.network != EMBEDDER:
        return metrics
    return [replace(metric, question=f"{metric.question} {_OWN}") for metric in metrics]


def n_way_questions(protocol: DictConfig, name: str, num_images: int, num_others: int) -> list[NWayQuestion]:
    """Return the n-way questions to a network; all images where it says no number, or where there are fewer."""
    found: dict[tuple[int, int], NWayQuestion] = {}
    for asked in protocol.n_way:
        if asked.network == name:
            limit = num_images + (num_others if asked.others else 0)
            n = num_images if asked.n is None else min(asked.n, limit)
            if asked.top_k < n:
                found.setdefault((n, asked.top_k), NWayQuestion(n, asked.top_k, n > num_images))
    return list(found.values())


def num_others_asked(protocol: DictConfig, num_images: int) -> int:
    """Return how many other images the protocol's questions need as candidates."""
    return max([0, *(asked.n - num_images for asked in protocol.n_way if asked.others and asked.n is not None)])
