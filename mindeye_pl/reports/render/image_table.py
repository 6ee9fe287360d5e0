"""Sortable table of images, the basis of the reconstruction grid and the retrieval gallery.

Legend: H and W image size in pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mindeye_pl.reports.render.figures import Drawable
from mindeye_pl.reports.render.section import Section, fill, slug
from mindeye_pl.reports.render.table import Column, format_value
from mindeye_pl.reports.render.thumbnails import Thumbnails

#: Rows shown initially, so that the next section is not far, and rows added by "Show more".
FIRST_ROWS, PAGE_SIZE = 6, 24
#: Scores below the images; the viewer shows all, and the table also the one that it is sorted by.
MAX_SCORES = 4
#: Initial seed of the random order.
SEED = 1


@dataclass(frozen=True)
class ImageColumn:
    """A column of images.

    Attributes:
        title: column header.
        meaning: where its images come from, in a few words.
        origin: the stimulus itself, an upper limit that no brain is needed for, or brain activity.
    """

    title: str
    meaning: str = ""
    origin: Literal["stimulus", "ceiling", "brain"] = "brain"


#: The first column of every table.
SEEN = ImageColumn("Seen", "shown to the subject", "stimulus")


@dataclass(frozen=True)
class Cell:
    """One image of a row.

    Attributes:
        image: `(3, H, W)` floats in [0, 1] or uint8; a `Thumbnail` in the template.
        alt: text alternative, if it is not the names of column and row.
        mark: label that marks it among the others of its row.
        small: text below the image.
    """

    image: Any
    alt: str = ""
    mark: str = ""
    small: str = ""


@dataclass(frozen=True)
class ImageRow:
    """A seen image and others.

    Attributes:
        name: for example "stimulus 17"; numbers in it are sorted as numbers.
        cells: by column title; missing columns stay empty.
        caption: of the seen image.
        predicted_caption: predicted from the brain.
        scores: of this row, by score name.
    """

    name: str
    cells: Mapping[str, Cell]
    caption: str = ""
    predicted_caption: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def image_table(
    title: str,
    columns: Sequence[ImageColumn],
    rows: Iterable[ImageRow],
    thumbnails: Thumbnails,
    *,
    metrics: Sequence[Column] = (),
    shows_scores: bool = True,
    note: str = "",
    figures: Mapping[str, Drawable] | None = None,
) -> Section:
    """Return the table as a section; the page's script sorts it, extends it and opens its images.

    The metrics are the sort keys of the rows, the default first; `shows_scores` shows the first ones below the images
    too. The note is above the table.
    """
    lines = []
    for row in rows:
        cells = {name: replace(cell, image=thumbnails.add(cell.image)) for name, cell in row.cells.items()}
        lines.append(replace(row, cells=cells))
    html = fill(
        "images.html",
        id=slug(title),
        title=title,
        columns=columns,
        lines=lines,
        metrics=metrics,
        shows_scores=shows_scores,
        note=note,
        format_value=format_value,
        first_rows=FIRST_ROWS,
        max_scores=MAX_SCORES,
        page_size=PAGE_SIZE,
        seed=SEED,
    )
    return Section(slug(title), title, html, images=thumbnails.uris, figures=figures or {})
