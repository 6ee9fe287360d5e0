"""A map of tokens: where predicted tokens lie among the true ones, in the plane of their first principal components.

Legend: n images, F features (tokens of an image, flattened).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.reports.render.charts import charts_section
from mindeye_pl.reports.render.figures import Palette, legend_above, plain_axes
from mindeye_pl.reports.render.section import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TokenMap:
    """Pairs of points in a plane.

    Attributes:
        title: what is drawn.
        predicted: `(n, 2)` float.
        true: `(n, 2)` float, the same images in the same order.
        names: of the images.
        explained: share of the true tokens' variance that each of the two axes explains.
    """

    title: str
    predicted: np.ndarray
    true: np.ndarray
    names: Sequence[str]
    explained: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.4, 4.4

    def words(self) -> str:
        """The map for those who cannot see it."""
        spread = float(self.predicted.std(0).mean() / max(float(self.true.std(0).mean()), 1e-12))
        return (
            f"{self.title}: {len(self.names)} images, a line from each predicted point to its true one; "
            f"predicted points spread {spread:.0%} as far as true ones."
        )

    def draw_on(self, figure: "Figure", palette: Palette) -> None:
        """Draws it on an empty figure."""
        axes = figure.subplots()
        for name, predicted, true in zip(self.names, self.predicted, self.true, strict=True):
            (line,) = axes.plot(*zip(predicted, true, strict=True), color=palette.ink, linewidth=0.9, alpha=0.45)
            line.set_gid(f"named: {name}")
        size = 26 if len(self.names) <= 100 else 12
        (x, y), (true_x, true_y) = self.predicted.T, self.true.T
        axes.scatter(true_x, true_y, s=size, marker="o", color=palette.series[0], label="true tokens", zorder=3)
        axes.scatter(x, y, s=size, marker="^", color=palette.series[1], label="predicted", zorder=4)
        first, second = (f"component {number + 1} ({self.explained[number]:.0%} of variance)" for number in range(2))
        axes.set_xlabel(first, color=palette.ink)
        axes.set_ylabel(second, color=palette.ink)
        plain_axes(axes, palette, grid="both")
        legend_above(axes, palette)


def token_map(title: str, predicted: np.ndarray, true: np.ndarray, names: Sequence[str]) -> TokenMap:
    """Principal components of the true tokens, and the predicted ones in the same plane.

    The plane is that of the true tokens alone: predictions that collapse to their mean are seen to collapse.

    Args:
        title: of the map.
        predicted: `(n, F)` float.
        true: `(n, F)` float, n of two at least.
        names: of the n images.
    """
    from sklearn.decomposition import PCA

    assert predicted.shape == true.shape, f"{predicted.shape} against {true.shape}"
    assert len(names) == len(true) > 1, f"{len(names)} names of {len(true)} images"
    solver = "full" if min(true.shape) <= 500 and max(true.shape) <= 5000 else "randomized"
    pca = PCA(n_components=2, svd_solver=solver, random_state=0).fit(true)
    first, second = pca.explained_variance_ratio_
    return TokenMap(title, pca.transform(predicted), pca.transform(true), names, (float(first), float(second)))


def token_map_section(
    predicted: np.ndarray,
    true: np.ndarray,
    names: Sequence[str],
    *,
    title: str = "Map of tokens",
    effective_rank: Mapping[str, float] | None = None,
    note: str = "",
) -> Section | None:
    """The map as part of the page, None for fewer than two images.

    Args:
        predicted: `(n, F)` float, predicted tokens of each image, flattened.
        true: `(n, F)` float, those of the images themselves.
        names: of the n images, shown under the pointer.
        title: of the section.
        effective_rank: by what it is of, "predicted" and "true" for instance.
        note: a sentence under the map.
    """
    if len(names) < 2:
        return None
    ranks = ", ".join(f"{name} {rank:.1f}" for name, rank in (effective_rank or {}).items())
    notes = [
        "Each line joins a prediction to the tokens of the image that was seen.",
        f"Effective rank: {ranks}." if ranks else "",
        note,
    ]
    heading = "Predicted and true tokens"
    return charts_section(title, [token_map(heading, predicted, true, names)], note=" ".join(filter(None, notes)))
