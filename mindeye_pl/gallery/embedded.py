"""A gallery's vectors, embedded once and kept on disk, from which indices are built.

A folder of files with the vectors of 8,192 places each, written atomically one after the other. A killed process
resumes with the first missing file.

Legend: N places of the gallery, n vectors of a file, F width of a vector.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.console import console, progress_bar
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.source import Gallery, Portion, portions
from mindeye_pl.store.atomic import write_arrays, write_json
from mindeye_pl.store.own_files import holds_tensors, opened_tensors, read_arrays, read_json, run_again

#: Places of a file: 12 MB of 768-wide vectors in half precision.
PLACES = 8192
SUMMARY = "vectors.json"

#: Names of files, around the first place of each.
_PREFIX, _SUFFIX = "vectors-", ".safetensors"

#: Names of unreadable images that are kept; all are counted.
_NAMED = 1000


def _first_place(file: str) -> int:
    return int(file.removeprefix(_PREFIX).removesuffix(_SUFFIX))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """L2-normalise rows `(n, F)`, float32: inner products are then cosines."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class EmbeddedGallery:
    """Vectors of a gallery in a folder of `embed_gallery`; raises a UserError if it is unfinished or damaged."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            summary: dict[str, Any] = read_json(folder / SUMMARY)
            self.dim: int = summary["dim"]  # F
            self.counts: dict[str, int] = dict(sorted(summary["files"].items()))  # vectors by file, by place
            self.num_unreadable: int = summary["num_unreadable"]
            self.unreadable: dict[str, str] = summary["unreadable"]  # error of the first skipped images, by name
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder} holds no complete embedded gallery", got=error, fix=f"rm -r {folder}") from error

    def __len__(self) -> int:
        """Number of vectors: N minus the unreadable images."""
        return sum(self.counts.values())

    def read(self, file: str) -> Portion:
        """Return the vectors of one file, `(n, F)` float32 of length 1."""
        content = read_arrays(self.folder / file)
        return Portion(content["places"], unit_rows(content["vectors"]))

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Return the vectors of ascending places `(n,)`, `(n, F)` float32 of length 1.

        Files are mapped one after the other, and only the pages of these vectors are read. Raises a UserError for a
        damaged file, or a place that has no vector.
        """
        rows = np.empty((len(places), self.dim), np.float32)
        files = list(self.counts)
        bounds = [0, *np.searchsorted(places, [_first_place(file) for file in files[1:]]).tolist(), len(places)]
        for file, (first, last) in zip(files, pairwise(bounds), strict=True):
            if first == last:
                continue
            path, fix = self.folder / file, f"rm -r {self.folder}, and run again"
            if not path.exists():
                raise UserError(f"{path} is missing", fix=fix)
            # PyTorch's tensors are views of the mapped file; NumPy's arrays would be copies of all of it.
            with opened_tensors(path) as content:
                known, vectors = content.get_tensor("places").numpy(), content.get_tensor("vectors").numpy()
                indices = np.searchsorted(known, places[first:last]).clip(max=len(known) - 1)
                missing = places[first:last][known[indices] != places[first:last]]
                rows[first:last] = vectors[indices]
            if len(missing):
                fix = f"rm -r {self.folder}, and run again"
                raise UserError(
                    f"{self.folder / file} lacks a vector of the index", got=f"no place {missing[0]}", fix=fix
                )
        return unit_rows(rows)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Sample `(count, F)` vectors uniformly without replacement, at most all of them; each file is read once."""
        total = len(self)
        chosen = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
        starts = np.cumsum([0, *self.counts.values()])
        bounds = np.searchsorted(chosen, starts)
        rows = np.empty((len(chosen), self.dim), np.float32)
        for file, start, first, last in zip(self.counts, starts, bounds, bounds[1:], strict=False):
            if first < last:
                rows[first:last] = self.read(file).content[chosen[first:last] - start]
        return rows


def embed_gallery(
    gallery: Gallery, folder: Path, embed: Callable[[np.ndarray], np.ndarray], *, batch_size: int, skip_unreadable: bool
) -> None:
    """Embed the missing vectors of a gallery and finish the folder, whose finished files are kept.

    `embed` maps at most `batch_size` images `(b, 3, P, P)` to vectors `(b, F)` of any length. Unreadable images are
    skipped, named and counted if `skip_unreadable`, else refused. Raises a UserError that names an unreadable image, or
    if no image is readable.
    """
    wanted = {f"{_PREFIX}{first:012d}{_SUFFIX}": (first, last) for first, last in portions(gallery, PLACES)}
    left = {name: bounds for name, bounds in wanted.items() if not holds_tensors(folder / name)}
    num_left = sum(last - first for first, last in left.values())
    with progress_bar(shown=bool(left)) as bar:
        task = bar.add_task("embedding the gallery", total=len(gallery), completed=len(gallery) - num_left)
        for name, (first, last) in left.items():
            parts = []
            for start in range(first, last, batch_size):
                places = np.arange(start, min(start + batch_size, last))
                portion = gallery.read(places)
                if portion.unreadable and not skip_unreadable:
                    raise _refused(portion.unreadable)
                parts.append(_embedded(gallery, portion, embed))
                bar.advance(task, len(places))
            _write(folder / name, parts)
    _finish(folder, sorted(wanted))


def _refused(unreadable: Mapping[str, str]) -> UserError:
    name, why = next(iter(unreadable.items()))
    expected = "a whole image, or a finite vector"
    fix = "retrieve.unreadable=skip skips and counts them; embedded images stay"
    return UserError(f"{name} of the gallery is unreadable", got=why, expected=expected, fix=fix)


def check_unreadable(gallery: EmbeddedGallery, skip_unreadable: bool) -> None:
    """Print the skipped images; if `skip_unreadable` is False, refuse them."""
    if not gallery.num_unreadable:
        return
    if not skip_unreadable:
        raise _refused(gallery.unreadable)
    names = list(gallery.unreadable)
    more = f" and {gallery.num_unreadable - 3:,} more" if gallery.num_unreadable > 3 else ""
    console.print(f"skipped {gallery.num_unreadable:,} unreadable: {', '.join(names[:3])}{more}", markup=False)


def _embedded(gallery: Gallery, portion: Portion, embed: Callable[[np.ndarray], np.ndarray]) -> Portion:
    """Return the portion with L2-normalised vectors in place of its images."""
    if not len(portion.places):
        return portion
    vectors = embed(portion.content) if portion.content.ndim == 4 else portion.content
    if not (good := np.isfinite(vectors).all(1) & np.any(vectors, axis=1)).all():
        (name,) = gallery.names(portion.places[~good][:1])
        raise UserError("the embedding of an image is zero or not finite", got=name, expected="finite numbers")
    return Portion(portion.places, unit_rows(vectors), portion.unreadable)


def _write(path: Path, parts: Sequence[Portion]) -> None:
    full = [part for part in parts if len(part.places)]
    places = np.concatenate([part.places for part in full]) if full else np.empty(0, np.int64)
    vectors = np.concatenate([part.content for part in full]) if full else np.empty((0, 1), np.float32)
    unreadable = {name: why for part in parts for name, why in part.unreadable.items()}
    content = {"places": places, "vectors": vectors.astype(np.float16)}
    write_arrays(path, content, {"unreadable": json.dumps(unreadable)})


def _finish(folder: Path, names: Sequence[str]) -> None:
    """Write the summary of the files."""
    counts, dims, unreadable, num_unreadable = {}, set(), dict[str, str](), 0
    for name in names:
        with opened_tensors(folder / name, "np", fix=run_again(folder / name)) as file:
            count, dim = file.get_slice("vectors").get_shape()
            found = json.loads(file.metadata()["unreadable"])
        num_unreadable += len(found)
        unreadable |= dict(list(found.items())[: max(0, _NAMED - len(unreadable))])
        if count:
            counts[name] = count
            dims.add(dim)
    if not counts:
        seen = f"{num_unreadable:,} unreadable, {next(iter(unreadable), 'none')} first"
        raise UserError("no image of the gallery is readable", got=seen, expected="one image or more")
    assert len(dims) == 1, dims
    summary = {"dim": dims.pop(), "num_unreadable": num_unreadable, "unreadable": unreadable, "files": counts}
    write_json(folder / SUMMARY, summary)
