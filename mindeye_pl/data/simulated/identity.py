"""The identity of a scene's objects, as higher visual cortex represents it.

Every category has a code near that of its group. A fixed random network, which all subjects share, embeds the objects'
codes in fewer dimensions than there are categories, so that a category is a region of the embedding and not a
direction in it. A linear map from the embedding therefore explains little of what tells categories apart, a non-linear
one all of it. The identity is invariant to the object's colour, place, size and texture.

Legend: C categories, n scenes, M dimensions of the identity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mindeye_pl.data.simulated.objects import GROUPS
from mindeye_pl.data.simulated.scene_source import Scene

#: M.
NUM_IDENTITY = 8
_NUM_HIDDEN = 64
#: Fraction of the variance of the categories' codes between groups.
_GROUP_FRACTION = 0.4
#: Weights of the main object and of the second one.
_ATTENTION = (1.0, 0.4)


@dataclass(frozen=True)
class Identity:
    """A network with one hidden layer over the sum of the objects' codes."""

    categories: Mapping[str, int]  # row of each category in the codes
    codes: np.ndarray  # (C, M), hidden drive of each category
    hidden: np.ndarray  # (M, H)
    output: np.ndarray  # (H, M)

    @classmethod
    def sample(cls, rng: np.random.Generator, group_of: Mapping[str, str] = GROUPS) -> Self:
        """Draw the network of a world, whose categories have the groups `group_of`."""
        groups = {group: rng.standard_normal(NUM_IDENTITY) for group in dict.fromkeys(group_of.values())}
        own = rng.standard_normal((len(group_of), NUM_IDENTITY))
        between = np.stack([groups[group] for group in group_of.values()])
        return cls(
            categories={category: row for row, category in enumerate(group_of)},
            codes=np.sqrt(_GROUP_FRACTION) * between + np.sqrt(1 - _GROUP_FRACTION) * own,
            hidden=rng.standard_normal((NUM_IDENTITY, _NUM_HIDDEN)) / np.sqrt(NUM_IDENTITY),
            output=rng.standard_normal((_NUM_HIDDEN, NUM_IDENTITY)) / np.sqrt(_NUM_HIDDEN),
        )

    def __call__(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Return the identity of the objects of some scenes, `(n, M)` float32."""
        drive = np.zeros((len(scenes), NUM_IDENTITY))
        for row, scene in zip(drive, scenes, strict=True):
            for weight, each in zip(_ATTENTION, scene.objects, strict=False):
                row += weight * self.codes[self.categories[each.category]]
        return (np.tanh(2 * drive @ self.hidden) @ self.output).astype(np.float32)
