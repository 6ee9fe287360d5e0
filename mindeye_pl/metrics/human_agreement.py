"""Agreement of metrics with people: how often a metric prefers the reconstruction that raters prefer.

The figures are pairwise accuracies of SEED's study (Park et al. 2026, ICLR, arXiv:2503.06437): 22 raters, 1,000 pairs
of reconstructions of NSD, chance 50 %. They were quoted from a summary; the paper itself was not read. A figure belongs
to a metric by one network and not to the same metric by another.
"""

from collections.abc import Sequence
from dataclasses import replace

from mindeye_pl.metrics.images import TableMetric

SOURCE = "SEED's study, arXiv:2503.06437, 22 raters and 1,000 pairs, chance 50 %; quoted from a summary"

#: Fraction of pairs, by `name_of_kind`: the layer of a network and the kind of its score, or the metric's name.
PAIRWISE_ACCURACY = {
    "pixcorr": 0.538,
    "ssim": 0.545,
    "alexnet_2_two_way": 0.550,
    "alexnet_5_two_way": 0.495,
    "inception_v3_two_way": 0.638,
    "clip_l_two_way": 0.664,
    "swav_distance": 0.697,
    "cap_sim": 0.738,
    "object_f1": 0.758,
    "efficientnet_b1_distance": 0.780,
    "seed": 0.810,
}


def with_agreement(metric: TableMetric, kind: str) -> TableMetric:
    """Return the column with its agreement, if the study has the metric; `kind` is a key of `PAIRWISE_ACCURACY`."""
    accuracy = PAIRWISE_ACCURACY.get(kind)
    if accuracy is None:
        return metric
    question = f"{metric.question} It agrees with people on {accuracy:.0%} of pairs."
    return replace(metric, question=question, human_agreement=accuracy)


def by_agreement(metrics: Sequence[TableMetric]) -> list[TableMetric]:
    """Return the columns by falling agreement with people, those without a figure after them in the order given."""
    return sorted(metrics, key=lambda metric: -(metric.human_agreement or 0.0))
