"""Section of maps of the brain: figures that are PNG files, each with the range of its values."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.reports.render.section import Section, fill


@dataclass(frozen=True)
class MapFigures:
    """A map and its figures.

    Attributes:
        title: heading.
        caption: meaning, unit and range.
        paths: PNG files by what they show.
    """

    title: str
    caption: str
    paths: Mapping[str, Path]


def maps_section(maps: Sequence[MapFigures], note: str, absent: Mapping[str, str]) -> Section:
    """Return the section "Brain maps".

    Args:
        maps: in order.
        note: what all figures have in common.
        absent: maps that are not there, with the reason.
    """
    images: dict[str, str] = {}
    shown = []
    for one in maps:
        keys = []
        for shows, path in one.paths.items():
            content = path.read_bytes()
            key = hashlib.blake2b(content, digest_size=8).hexdigest()
            images[key] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            keys.append({"key": key, "shows": shows})
        shown.append({"title": one.title, "caption": one.caption, "images": keys})
    html = fill("brain_maps.html", maps=shown, note=note, absent=absent)
    return Section("brain-maps", "Brain maps", html, images)
