"""Interface of galleries: places in a fixed order, each with a stable name, read in portions.

Legend: n requested places, N places of the gallery, P side of the square images, F width of a vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint


@dataclass(frozen=True)
class Portion:
    """Readable content of the requested places."""

    places: np.ndarray  # (n,) int64, the readable ones, in the requested order
    content: np.ndarray  # (n, 3, P, P) images in [0, 1], or (n, F) finite vectors of which none is zero
    unreadable: Mapping[str, str] = field(default_factory=dict)  # error of each other image, by name


class Gallery(Protocol):
    """Images, or vectors of images, which stay on disk until they are read."""

    holds_images: bool  # False for a table of vectors

    def __len__(self) -> int:
        """N."""

    def names(self, places: np.ndarray) -> list[str]:
        """Return the stable names of `(n,)` places."""

    def read(self, places: np.ndarray) -> Portion:
        """Read `(n,)` ascending places; single damaged images are named in the portion.

        Raises a UserError if the gallery itself is missing or damaged.
        """

    def fingerprint(self) -> str:
        """Return the fingerprint of the content, independent of the path."""


def read_each(places: np.ndarray, names: Sequence[str], read: Callable[[int], np.ndarray], side: int) -> Portion:
    """Read images one by one, so that a damaged image does not affect the others.

    `read` returns a place's image `(3, side, side)`, and raises `UserError` if it is damaged.
    """
    kept, images, unreadable = [], [], {}
    for place, name in zip(places.tolist(), names, strict=True):
        try:
            images.append(read(place))
            kept.append(place)
        except UserError as error:
            unreadable[name] = str(error.got or error.what)
    content = np.stack(images) if images else np.empty((0, 3, side, side), np.float16)
    return Portion(np.array(kept, np.int64), content, unreadable)


def keep_finite(places: np.ndarray, names: Sequence[str], content: np.ndarray) -> Portion:
    """Return the portion of `(n, ...)` rows that hold no NaN or infinity; a vector's must not be all zeros either."""
    rows = content.reshape(len(content), -1)
    finite = np.isfinite(rows).all(1)
    directed = finite & (rows.any(1) | (content.ndim == 4))
    left_out = np.flatnonzero(~directed).tolist()
    unreadable = {names[row]: "only zeros" if finite[row] else "holds NaN or infinity" for row in left_out}
    return Portion(places[directed], content[directed] if unreadable else content, unreadable)


class Selected:
    """The ascending places `(N,)` of a gallery, as a gallery."""

    def __init__(self, gallery: Gallery, places: np.ndarray):
        self._gallery, self._places, self.holds_images = gallery, places, gallery.holds_images

    def __len__(self) -> int:
        return len(self._places)

    def names(self, places: np.ndarray) -> list[str]:
        """See `Gallery.names`; those of the whole one."""
        return self._gallery.names(self._places[places])

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`."""
        portion = self._gallery.read(self._places[places])
        return Portion(np.searchsorted(self._places, portion.places), portion.content, portion.unreadable)

    def fingerprint(self) -> str:
        """Return the fingerprint of the whole gallery and the places."""
        return fingerprint({"gallery": self._gallery.fingerprint(), "places": self._places.tolist()})


class Joined:
    """Galleries one behind the other; `parts` holds them."""

    def __init__(self, galleries: Sequence[Gallery]):
        self.parts = list(galleries)
        self.holds_images = all(gallery.holds_images for gallery in self.parts)

    @property
    def starts(self) -> np.ndarray:
        """The place of each gallery's first image, and N behind them."""
        return np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def names(self, places: np.ndarray) -> list[str]:
        """See `Gallery.names`."""
        return [name for gallery, own, _ in self._parts(places) for name in gallery.names(own)]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`; images of two sizes are refused, images and vectors never in one portion (`portions`)."""
        read = [(gallery.read(own), start) for gallery, own, start in self._parts(places)]
        if len(sizes := {portion.content.shape[1:] for portion, _ in read}) > 1:
            raise UserError("images of two sizes in one portion", got=list(sizes), expected="squares of one side")
        return Portion(
            np.concatenate([portion.places + start for portion, start in read]),
            np.concatenate([portion.content for portion, _ in read]),
            {name: why for portion, _ in read for name, why in portion.unreadable.items()},
        )

    def fingerprint(self) -> str:
        """Return the fingerprint of the galleries' fingerprints."""
        return fingerprint([gallery.fingerprint() for gallery in self.parts])

    def _parts(self, places: np.ndarray) -> list[tuple[Gallery, np.ndarray, int]]:
        """The galleries that hold some of the ascending places, with the places counted from their own starts."""
        starts = self.starts
        bounds = np.searchsorted(places, starts)
        parts = zip(self.parts, bounds[:-1], bounds[1:], starts[:-1], strict=True)
        return [(gallery, places[low:high] - start, int(start)) for gallery, low, high, start in parts if low < high]


def portions(gallery: Gallery, size: int) -> list[tuple[int, int]]:
    """Return the bounds `[first, last)` of the portions that a gallery is read in.

    A portion ends where a part of a joined gallery ends, so that its content is of one kind.
    """
    ends = gallery.starts[1:].tolist() if isinstance(gallery, Joined) else [len(gallery)]
    bounds = [0]
    for end in ends:
        bounds += [*range(bounds[-1] + size, end, size), end] if end > bounds[-1] else []
    return list(pairwise(bounds))
