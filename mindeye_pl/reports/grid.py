"""Pictures side by side: one row for each seen picture, as part of the page.

Legend: H and W picture size in pixels.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.reports.page import Section, fill

#: Small pictures are shown larger, with their pixels kept apart.
_SHOWN_WIDTH = 128


@dataclass(frozen=True)
class GridRow:
    """One seen picture and what was made of the brain's response to it.

    Attributes:
        name: "stimulus 17" for instance.
        pictures: by the column's title, `(3, H, W)` floats in [0, 1]; a column that is missing stays empty.
        caption: what the seen picture shows, for those who do not see it.
        said: the caption that was made from the brain.
    """

    name: str
    pictures: Mapping[str, np.ndarray]
    caption: str = ""
    said: str = ""


def grid_section(title: str, columns: Sequence[str], rows: Sequence[GridRow], note: str = "") -> Section | None:
    """The pictures as a table, held inside the page.

    Args:
        title: of the section.
        columns: titles, in order; the first is the seen picture.
        rows: one for each picture.
        note: a sentence under the table.
    """
    if not rows:
        return None
    lines = [
        {
            "name": row.name,
            "caption": row.caption,
            "said": row.said,
            "cells": [_data_uri(row.pictures[column]) if column in row.pictures else None for column in columns],
        }
        for row in rows
    ]
    captioned = any(row.said for row in rows)
    html = fill(
        "grid.html", title=title, columns=columns, lines=lines, note=note, captioned=captioned, width=_SHOWN_WIDTH
    )
    return Section(title.lower().replace(" ", "-"), title, html)


def _data_uri(picture: np.ndarray) -> str:
    """A PNG inside the page."""
    from PIL import Image

    assert picture.ndim == 3, picture.shape
    assert picture.shape[0] == 3, picture.shape
    pixels = (np.clip(picture.astype(np.float32), 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
