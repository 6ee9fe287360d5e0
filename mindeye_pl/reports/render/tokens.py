"""Map of predicted and true tokens in the plane of the true tokens' first principal components.

Legend: n images, F features (flattened tokens of an image).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.reports.render.figures import INK, SERIES, legend_above
from mindeye_pl.reports.render.section import Section, charts_section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TokenMap:
    """Predicted and true tokens of the same named images as points in a plane, `(n, 2)` float each.

    `explained` is the fraction of the true tokens' variance explained by each axis.
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

    def describe(self) -> str:
        """Return a text alternative of the map."""
        spread = float(self.predicted.std(0).mean() / max(float(self.true.std(0).mean()), 1e-12))
        return (
            f"{self.title}: {len(self.names)} images, a line from each predicted point to its true one; "
            f"predicted points spread {spread:.0%} as far as true ones."
        )

    def draw_on(self, figure: "Figure") -> None:
        """Draw the map on an empty figure."""
        axes = figure.subplots()
        for name, predicted, true in zip(self.names, self.predicted, self.true, strict=True):
            (line,) = axes.plot(*zip(predicted, true, strict=True), "-", color=INK, linewidth=0.9, alpha=0.45)
            line.set_gid(f"named: {name}")
        size = 26 if len(self.names) <= 100 else 12
        (x, y), (true_x, true_y) = self.predicted.T, self.true.T
        axes.scatter(true_x, true_y, s=size, marker="o", color=SERIES[0], label="true tokens", zorder=3)
        axes.scatter(x, y, s=size, marker="^", color=SERIES[1], label="predicted", zorder=4)
        first, second = (f"component {number + 1} ({self.explained[number]:.0%} of variance)" for number in range(2))
        axes.set_xlabel(first)
        axes.set_ylabel(second)
        axes.grid(True)
        legend_above(axes)


def token_map(title: str, predicted: np.ndarray, true: np.ndarray, names: Sequence[str]) -> TokenMap:
    """Project true and predicted tokens, `(n, F)` float with n > 1, on the true tokens' principal components.

    The plane is fitted to the true tokens only, so that collapsed predictions are visible as such.
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
    effective_rank: Mapping[str, float] | None = None,
    note: str = "",
) -> Section | None:
    """Return the map of flattened tokens, `(n, F)` float, as a section; None for fewer than two images.

    The names are shown as tooltips. The effective rank is by name, for example "predicted" and "true".
    """
    if len(names) < 2:
        return None
    notes = ["Each line connects a prediction with the tokens of the seen image."]
    if effective_rank:
        notes.append(f"Effective rank: {', '.join(f'{name} {rank:.1f}' for name, rank in effective_rank.items())}.")
    chart = token_map("Predicted and true tokens", predicted, true, names)
    return charts_section("Map of tokens", [chart], " ".join([*notes, note]).strip())
