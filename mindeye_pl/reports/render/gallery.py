"""Retrieval, to be looked at: the seen image, those found first from the brain, and where the true one came.

Legend: H and W image size in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.reports.render.image_table import Cell, Line, image_table
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.render.thumbnails import WIDTH, Thumbnails

#: How a row is sorted; rank 1 is the first that was found.
RANK = Column("Rank of the seen image", "rank", "", "integer", higher_is_better=False)
#: Word under the image that was seen, where it is among those found first.
TRUE = "seen image"


@dataclass(frozen=True)
class Found:
    """An image that was found.

    Attributes:
        image: `(3, H, W)` floats in [0, 1] or uint8.
        similarity: of its embedding to the one predicted from the brain.
        true: whether it is the image that was seen.
        name: "stimulus 17" for instance.
    """

    image: np.ndarray
    similarity: float
    true: bool = False
    name: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """One brain's response and what it found.

    Attributes:
        name: of the seen image, "stimulus 17" for instance.
        seen: `(3, H, W)` floats in [0, 1] or uint8.
        found: those found first, the most similar one first.
        rank: at which the seen image came, 1 for the first; None where it is not in the gallery, or not among the
            first that were put in order.
        pool_size: images that it was looked for among.
        searched: how many were put in order, where that was not the whole pool.
        caption: what the seen image shows, for those who do not see it.
    """

    name: str
    seen: np.ndarray
    found: Sequence[Found]
    rank: int | None
    pool_size: int
    caption: str = ""
    searched: int | None = None

    def __post_init__(self) -> None:
        assert self.rank is None or 1 <= self.rank <= self.pool_size, f"{self.name}: {self.rank} of {self.pool_size}"
        places = [place for place, found in enumerate(self.found, 1) if found.true]
        expected = [self.rank] if self.rank is not None and self.rank <= len(self.found) else []
        assert places == expected, f"{self.name}: {places}, {self.rank}"

    def rank_in_words(self) -> str:
        """Where the seen image came."""
        if self.rank is not None:
            return f"rank {self.rank} of {self.pool_size:,}"
        return f"not among the first {self.searched} of {self.pool_size:,}" if self.searched else "not in the gallery"


def gallery_section(
    rows: Sequence[GalleryRow], title: str = "Retrieval gallery", note: str = "", *, width: int = WIDTH
) -> Section | None:
    """The gallery as a section, None without rows.

    Args:
        rows: one for each brain's response.
        title: of the section.
        note: a sentence under it.
        width: pixels to a side that large images are shrunk to.
    """
    if not rows:
        return None
    num_found = max(len(row.found) for row in rows)
    shown = min(max(row.pool_size for row in rows), num_found * len(rows))
    thumbnails = Thumbnails(shown + len(rows), width)
    lines = [_line(thumbnails, row, num_found) for row in rows]
    first = sum(row.rank == 1 for row in rows)
    any_known = any(row.rank is not None or row.searched for row in rows)
    came_first = f"the seen image came first in {first} of {len(rows)} rows. "
    notes = [
        f"From brain activity alone{f': {came_first}' if any_known else '. '}The most similar "
        f'image stands left; a double frame and the words "{TRUE}" mark the true one.',
        note,
    ]
    columns = ["Seen", *(f"Found {place}" for place in range(1, num_found + 1))]
    return image_table(
        title, columns, lines, images=thumbnails.uris, metrics=[RANK], note=" ".join(filter(None, notes))
    )


def _line(thumbnails: Thumbnails, row: GalleryRow, num_found: int) -> Line:
    cells: list[Cell | None] = [Cell(thumbnails.add(row.seen), "Seen", f"Seen, {row.name}", small=row.rank_in_words())]
    for place, found in enumerate(row.found, 1):
        name = found.name or f"image found {place}"
        alt = f"Found {place}: {name}{', the seen image' if found.true else ''}"
        mark = TRUE if found.true else ""
        cells.append(Cell(thumbnails.add(found.image), f"Found {place}", alt, mark, f"{found.similarity:.3f}"))
    cells += [None] * (num_found - len(row.found))
    scores = {} if row.rank is None else {RANK.score: float(row.rank)}
    return Line(row.name, cells, scores, row.caption, shows_scores=False)
