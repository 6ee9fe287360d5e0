"""Reconstructions beside the seen images: a table to sort and to open, and a figure of its first rows.

Legend: H and W image size in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.reports.render.figures import Palette
from mindeye_pl.reports.render.image_table import Cell, Line, image_table
from mindeye_pl.reports.render.section import Section, slug
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.render.thumbnails import WIDTH, Thumbnails, as_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Rows of the figure that is exported.
FIGURE_ROWS = 12


@dataclass(frozen=True)
class GridRow:
    """One seen image and what was made of the brain's response to it.

    Attributes:
        name: "stimulus 17" for instance.
        images: by the column's title, `(3, H, W)` floats in [0, 1] or uint8; a column that is missing stays empty.
        caption: what the seen image shows, for those who do not see it.
        said: the caption that was made from the brain.
        scores: of this image alone, by score name.
    """

    name: str
    images: Mapping[str, np.ndarray]
    caption: str = ""
    said: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def grid_section(
    title: str,
    columns: Sequence[str],
    rows: Sequence[GridRow],
    note: str = "",
    *,
    metrics: Sequence[Column] = (),
    width: int = WIDTH,
) -> Section | None:
    """The images as a table, held inside the page; rows are read once, so they may be made as they are asked for.

    Args:
        title: of the section.
        columns: titles, in order; the first is the seen image.
        rows: one for each image.
        note: a sentence under the table.
        metrics: scores that rows show and can be sorted by.
        width: pixels to a side that large images are shrunk to.
    """
    if not len(rows):
        return None
    thumbnails = Thumbnails(len(rows) * len(columns), width)
    lines: list[Line] = []
    first: list[GridRow] = []
    for row in rows:
        cells = [_cell(thumbnails, row, column) for column in columns]
        lines.append(Line(row.name, cells, row.scores, row.caption, row.said))
        if len(first) < FIGURE_ROWS:
            first.append(row)
    figure = GridFigure(title, columns, first)
    return image_table(
        title,
        columns,
        lines,
        images=thumbnails.uris,
        metrics=metrics,
        note=note,
        figures={slug(title): figure},
    )


def _cell(thumbnails: Thumbnails, row: GridRow, column: str) -> Cell | None:
    if column not in row.images:
        return None
    return Cell(thumbnails.add(row.images[column]), column, f"{column}, {row.name}")


@dataclass(frozen=True)
class GridFigure:
    """The first rows as a figure for a paper: a column for each seen image, a line for each kind of image."""

    title: str
    columns: Sequence[str]
    rows: Sequence[GridRow]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 0.75 * len(self.rows) + 1.2, 0.75 * len(self.columns)

    def words(self) -> str:
        """The figure for those who cannot see it."""
        return f"{self.title} of {', '.join(row.name for row in self.rows)}: {', '.join(self.columns)}."

    def draw_on(self, figure: "Figure", palette: Palette) -> None:
        """Draws it on an empty figure."""
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)  # type: ignore[call-arg]
        places = figure.subplots(len(self.columns), len(self.rows), squeeze=False)
        for line, column in zip(places, self.columns, strict=True):
            for axes, row in zip(line, self.rows, strict=True):
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if column in row.images:
                    axes.imshow(as_pixels(row.images[column]), interpolation="nearest")
            line[0].set_ylabel(column, color=palette.ink, rotation=0, ha="right", va="center")
