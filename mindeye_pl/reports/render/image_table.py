"""Sortable table of images, the basis of the reconstruction grid and the retrieval gallery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mindeye_pl.reports.render.figures import Drawable
from mindeye_pl.reports.render.section import Section, fill, slug
from mindeye_pl.reports.render.table import Column, format_value
from mindeye_pl.reports.render.thumbnails import Thumbnail

#: Rows shown initially, and added by "Show more".
PAGE_SIZE = 24
#: Initial seed of the random order.
SEED = 1


@dataclass(frozen=True)
class Cell:
    """One image of a row.

    Attributes:
        image: the image.
        label: label in the viewer, for example the column title.
        alt: text alternative.
        mark: label that marks it among the others of its row.
        small: text below the image.
    """

    image: Thumbnail
    label: str
    alt: str
    mark: str = ""
    small: str = ""


@dataclass(frozen=True)
class ImageRow:
    """One row of images.

    Attributes:
        name: for example "stimulus 17"; numbers in it are sorted as numbers.
        cells: one per column, None if empty.
        scores: of this row, by score name.
        caption: caption of the seen image.
        predicted_caption: caption predicted from the brain.
        shows_scores: show scores below the images; otherwise they are only sort keys.
    """

    name: str
    cells: Sequence[Cell | None]
    scores: Mapping[str, float] = field(default_factory=dict)
    caption: str = ""
    predicted_caption: str = ""
    shows_scores: bool = True


def image_table(
    title: str,
    columns: Sequence[str],
    lines: Sequence[ImageRow],
    *,
    images: Mapping[str, str],
    metrics: Sequence[Column] = (),
    note: str = "",
    figures: Mapping[str, Drawable] | None = None,
) -> Section:
    """Return the table as a section; the page's script sorts it, extends it and opens its images.

    Args:
        title: of the section.
        columns: titles, in order.
        lines: the rows, in initial order.
        images: data URIs of all cells by key.
        metrics: sort keys of the rows, the default first.
        note: sentence below the table.
        figures: figures to export.
    """
    scores = [
        [(metric, value, format_value(value, metric)) for metric, value in _known(metrics, line)] for line in lines
    ]
    html = fill(
        "images.html",
        id=slug(title),
        title=title,
        columns=columns,
        lines=list(zip(lines, scores, strict=True)),
        metrics=metrics,
        note=note,
        has_predicted_captions=any(line.predicted_caption for line in lines),
        page_size=PAGE_SIZE,
        seed=SEED,
    )
    return Section(slug(title), title, html, images=images, figures=figures or {})


def _known(metrics: Sequence[Column], line: ImageRow) -> list[tuple[Column, float]]:
    """Return the metrics for which the row has a score."""
    return [(metric, line.scores[metric.score]) for metric in metrics if metric.score in line.scores]
