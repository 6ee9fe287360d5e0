"""A table of images to sort and to open: what the grid of reconstructions and the retrieval gallery share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mindeye_pl.reports.render.figures import Drawable
from mindeye_pl.reports.render.section import Section, fill, slug
from mindeye_pl.reports.render.table import Column, in_form
from mindeye_pl.reports.render.thumbnails import Thumbnail

#: Rows that are shown at first, and that `show more` adds.
PORTION = 24
#: The order that `random` begins with.
SEED = 1


@dataclass(frozen=True)
class Cell:
    """One image of a row.

    Attributes:
        image: what is shown.
        label: over it where it is opened, the column's title for instance.
        alt: what it shows, for those who do not see it.
        mark: a word that marks it among the others of its row.
        small: a number or a few words under it.
    """

    image: Thumbnail
    label: str
    alt: str
    mark: str = ""
    small: str = ""


@dataclass(frozen=True)
class Line:
    """One row: what was seen, and what was made of it or found for it.

    Attributes:
        name: "stimulus 17" for instance; numbers in it are sorted as numbers.
        cells: one for each column, None where there is nothing.
        scores: of this row alone, by score name.
        caption: what the seen image shows.
        said: the caption that was made from the brain.
        shows_scores: whether they are written under the images, or only sorted by.
    """

    name: str
    cells: Sequence[Cell | None]
    scores: Mapping[str, float] = field(default_factory=dict)
    caption: str = ""
    said: str = ""
    shows_scores: bool = True


def image_table(
    title: str,
    columns: Sequence[str],
    lines: Sequence[Line],
    *,
    images: Mapping[str, str],
    metrics: Sequence[Column] = (),
    note: str = "",
    figures: Mapping[str, Drawable] | None = None,
) -> Section:
    """The table as a section; the page's script sorts it, shows more of it and opens its images.

    Args:
        title: of the section.
        columns: titles, in order.
        lines: the rows, in the order in which they are shown at first.
        images: data URIs of all cells by key.
        metrics: what rows can be sorted by, the first one at first.
        note: a sentence under the table.
        figures: for the export.
    """
    written = [[(metric, value, in_form(value, metric)) for metric, value in _known(metrics, line)] for line in lines]
    html = fill(
        "images.html",
        id=slug(title),
        title=title,
        columns=columns,
        lines=list(zip(lines, written, strict=True)),
        metrics=metrics,
        note=note,
        said=any(line.said for line in lines),
        portion=PORTION,
        seed=SEED,
    )
    return Section(slug(title), title, html, images=images, figures=figures or {})


def _known(metrics: Sequence[Column], line: Line) -> list[tuple[Column, float]]:
    """The metrics that the row has a score of."""
    return [(metric, line.scores[metric.score]) for metric in metrics if metric.score in line.scores]
