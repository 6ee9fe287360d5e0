"""Significant differences between a table row and this run, by paired intervals over the same images.

Legend: N images.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mindeye_pl.metrics.statistics.intervals import difference_over_images
from mindeye_pl.reports.render.table import Column, Difference


def find_significant_differences(
    row: Mapping[str, np.ndarray],
    this_run: Mapping[str, np.ndarray],
    columns: Sequence[Column],
    *,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Return for each column if the row is significantly better or worse than this run; other columns are left out.

    A difference is significant if its interval excludes zero, without correction for the number of columns.

    Args:
        row: `(N,)` per-image scores by score name.
        this_run: per-image scores of this run, for the same images in the same order.
        columns: compared scores and their directions.
        confidence: of the interval.

    Returns:
        Value of `Row.differs`.
    """
    found: dict[str, Difference] = {}
    for column in columns:
        if column.score in row and column.score in this_run:
            low, high = difference_over_images(
                row[column.score], this_run[column.score], confidence=confidence
            ).interval
            if low > 0 or high < 0:
                found[column.score] = "better" if (low > 0) == column.higher_is_better else "worse"
    return found
