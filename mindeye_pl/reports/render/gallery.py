"""Page section with retrieval results: the seen image, the retrieved images, and the rank of the true one.

Legend: H and W image size in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.reports.render.image_table import SEEN, Cell, ImageColumn, ImageRow, image_table
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.render.thumbnails import Thumbnails

#: Sort key of the rows; rank 1 is the most similar image.
RANK = Column("Rank of the seen image", "rank", "", "integer", higher_is_better=False)
#: Mark of the seen image among the retrieved ones.
TRUE = "seen image"


@dataclass(frozen=True)
class Found:
    """A retrieved image, `(3, H, W)` floats in [0, 1] or uint8.

    Attributes:
        similarity: of its embedding to the one predicted from the brain.
        true: it is the seen image.
    """

    image: np.ndarray
    similarity: float
    true: bool = False
    name: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """Retrieval result of one response.

    Attributes:
        name: name of the seen image, for example "stimulus 17".
        seen: `(3, H, W)` floats in [0, 1] or uint8.
        found: retrieved images, most similar first.
        rank: rank of the seen image, 1 for the most similar; None if it is not in the gallery, or not among the first
            `searched` images.
        pool_size: number of images in the gallery.
        caption: of the seen image.
        searched: number of ranked images, if smaller than the gallery.
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
        positions = [position for position, found in enumerate(self.found, 1) if found.true]
        expected = [self.rank] if self.rank is not None and self.rank <= len(self.found) else []
        assert positions == expected, f"{self.name}: seen image at {positions}, but rank {self.rank}"

    @property
    def rank_in_words(self) -> str:
        """The rank of the seen image as text."""
        if self.rank is not None:
            return f"rank {self.rank} of {self.pool_size:,}"
        return f"not among the first {self.searched} of {self.pool_size:,}" if self.searched else "not in the gallery"


def gallery_section(rows: Sequence[GalleryRow], title: str = "Retrieval gallery", note: str = "") -> Section | None:
    """Return the gallery as a section with a note above it, None without rows."""
    if not rows:
        return None
    num_found = max(len(row.found) for row in rows)
    shown = min(max(row.pool_size for row in rows), num_found * len(rows))
    first = sum(row.rank == 1 for row in rows)
    any_known = any(row.rank is not None or row.searched for row in rows)
    result = f": the seen image has rank 1 in {first} of {len(rows)} rows" if any_known else ""
    key = f'The most similar image is on the left; a double frame and the label "{TRUE}" mark the true one.'
    return image_table(
        title,
        [SEEN, *(ImageColumn(f"Found {rank}") for rank in range(1, num_found + 1))],
        map(_image_row, rows),
        Thumbnails(shown + len(rows)),
        metrics=[RANK],
        shows_scores=False,
        note=f"Retrieved from brain activity alone{result}. {key} {note}".strip(),
    )


def _image_row(row: GalleryRow) -> ImageRow:
    cells = {SEEN.title: Cell(row.seen, f"Seen, {row.name}", small=row.rank_in_words)}
    for rank, found in enumerate(row.found, 1):
        name = found.name or f"retrieved image {rank}"
        alt = f"Found {rank}: {name}{', the seen image' if found.true else ''}"
        cells[f"Found {rank}"] = Cell(found.image, alt, TRUE if found.true else "", f"{found.similarity:.3f}")
    scores = {} if row.rank is None else {RANK.score: float(row.rank)}
    return ImageRow(row.name, cells, row.caption, scores=scores)
