"""Whether a row of the table differs from this run beyond doubt: a paired test over the same images.

Legend: N images.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mindeye_pl.metrics.statistics.intervals import difference_over_images
from mindeye_pl.reports.render.table import Column, Difference


def beyond_doubt(
    row: Mapping[str, np.ndarray],
    this_run: Mapping[str, np.ndarray],
    columns: Sequence[Column],
    *,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """For each column, whether the row is better or worse than this run; columns without a clear answer are left out.

    The interval of the mean paired difference must leave zero out. It is not corrected for the number of columns.

    Args:
        row: `(N,)` scores of each image by score name.
        this_run: the same of this run, the same images in the same order.
        columns: which scores, and their directions.
        confidence: of the interval.

    Returns:
        What `Row.differs` takes.
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
