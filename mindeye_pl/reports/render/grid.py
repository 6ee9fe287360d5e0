"""Page section with reconstructions beside the seen images, and a figure of its first rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from mindeye_pl.reports.render.image_table import ImageColumn, ImageRow, image_table
from mindeye_pl.reports.render.section import Section, slug
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.render.thumbnails import Thumbnails, as_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Number of rows in the exported figure.
MAX_FIGURE_ROWS = 12


def grid_section(
    title: str,
    columns: Sequence[ImageColumn],
    rows: Collection[ImageRow],
    note: str = "",
    *,
    metrics: Sequence[Column] = (),
) -> Section | None:
    """Return a section with a table of images, None without rows, which may be created lazily.

    The first column is the seen image. The metrics are shown, and the images can be sorted by them.
    """
    if not len(rows):
        return None
    figure = GridFigure(title, [column.title for column in columns], list(islice(rows, MAX_FIGURE_ROWS)))
    return image_table(
        title,
        columns,
        rows,
        Thumbnails(len(rows) * len(columns)),
        metrics=metrics,
        note=note,
        figures={slug(title): figure},
    )


@dataclass(frozen=True)
class GridFigure:
    """Figure of the first rows for a paper: one column per seen image, one row per kind of image."""

    title: str
    columns: Sequence[str]
    rows: Sequence[ImageRow]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 0.75 * len(self.rows) + 1.2, 0.75 * len(self.columns)

    def describe(self) -> str:
        """Return a text alternative of the figure."""
        return f"{self.title} of {', '.join(row.name for row in self.rows)}: {', '.join(self.columns)}."

    def draw_on(self, figure: "Figure") -> None:
        """Draw the images on an empty figure."""
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)  # type: ignore[call-arg]
        grid = figure.subplots(len(self.columns), len(self.rows), squeeze=False)
        for line, column in zip(grid, self.columns, strict=True):
            for axes, row in zip(line, self.rows, strict=True):
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if column in row.cells:
                    axes.imshow(as_pixels(row.cells[column].image), interpolation="nearest")
            line[0].set_ylabel(column, rotation=0, ha="right", va="center")
