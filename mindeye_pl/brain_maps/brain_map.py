"""One value per voxel, with its name and unit.

Legend: V voxels of one subject.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Colours end at this percentile, so that a few large values do not darken the rest.
_HIGHEST_PERCENTILE = 99


@dataclass(frozen=True)
class BrainMap:
    """A map of the brain.

    Attributes:
        name: of its files.
        title: for people.
        unit: of the values.
        meaning: one sentence.
        values: `(V,)` float32; NaN where there is none.
    """

    name: str
    title: str
    unit: str
    meaning: str
    values: np.ndarray

    @property
    def is_empty(self) -> bool:
        """True if no voxel has a value."""
        return not np.isfinite(self.values).any()

    @property
    def colour_limit(self) -> float:
        """Value of the last colour; the first one is that of 0 and of negative values."""
        highest = float(np.percentile(self.values[np.isfinite(self.values)], _HIGHEST_PERCENTILE))
        return highest if highest > 0 else 1.0

    def describe(self) -> dict[str, Any]:
        """Return plain data: the texts, the range, the median and the last colour's value."""
        finite = self.values[np.isfinite(self.values)].astype(np.float64)
        numbers = {"lowest": finite.min(), "median": np.median(finite), "highest": finite.max()}
        texts = {"name": self.name, "title": self.title, "unit": self.unit, "meaning": self.meaning}
        limit = {"colour_limit": self.colour_limit, "num_voxels": len(finite)}
        return texts | {key: float(value) for key, value in numbers.items()} | limit
