"""Interface of vector indices, how an index is filled, and its metadata.

Legend: n queries, k images found for each, F width of a vector.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.console import progress_bar
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.embedded import EmbeddedGallery
from mindeye_pl.gallery.source import Portion
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.regular_files import check_regular

MANIFEST = "index.json"
#: The only metric: vectors have length 1, and inner products are cosines.
COSINE = "cosine"
REBUILD = "index.folder=null builds one"

Settings = TypeVar("Settings")


class SearchedIndex(Protocol):
    """Vectors of length 1 that are searched by cosine."""

    def __len__(self) -> int:
        """Number of vectors."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k vectors that are nearest to each query `(n, F)` of any length.

        They are cosines `(n, k)` float32, the largest first, and places in the gallery `(n, k)` int64, -1 where there
        are fewer than k.
        """

    def close(self) -> None:
        """Close files and connections."""


class VectorIndex(SearchedIndex, Protocol):
    """A `SearchedIndex` that is filled in parts, each of which is complete or missing."""

    files_at_once: int  # files of the embedded gallery in a part

    def train(self, gallery: EmbeddedGallery) -> None:
        """Train the index before vectors are added; once."""

    def has(self, part: int) -> bool:
        """Return if the part with this number was added."""

    def add(self, part: int, portions: Iterable[Portion]) -> None:
        """Add the vectors of the part with this number; parts come in order."""

    def finish(self) -> None:
        """Prepare the search, once all parts are added."""


@dataclass(frozen=True)
class IndexManifest:
    """Metadata of a vector index."""

    engine: str  # "faiss" or "milvus"
    build: dict[str, Any]  # its build settings
    embedder: dict[str, Any]  # plain data that identifies the embedder, including its `name`
    vector: dict[str, Any]  # settings that reduce an image's tokens to one vector
    gallery: str  # fingerprint of the gallery
    dim: int  # F
    count: int  # number of vectors
    metric: str = COSINE

    def write(self, folder: Path) -> None:
        """Write the metadata, last of all: an index without it is unfinished."""
        write_json(folder / MANIFEST, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "IndexManifest":
        """Return the metadata in a folder; raises a UserError if they are missing or damaged."""
        try:
            return TypeAdapter(cls).validate_json(check_regular(folder / MANIFEST).read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            wanted = "the folder of a finished index"
            raise UserError(f"{folder} holds no index", got=error, expected=wanted, fix=REBUILD) from error

    def build_settings(self, folder: Path, kind: type[Settings]) -> Settings:
        """Return the build settings as the class of its engine; raises a UserError for values that it does not take."""
        try:
            return TypeAdapter(kind).validate_python(self.build)
        except ValidationError as error:
            wanted = f"settings of {kind.__name__}"
            raise UserError(f"{folder / MANIFEST} is damaged", got=error, expected=wanted, fix=REBUILD) from error

    def check_address(self, folder: Path, address: str | None) -> None:
        """Refuse an index in a database that the user has not named: it would receive the user's credentials."""
        if (found := self.build.get("uri")) != address:
            fix = f"index.build.uri={found}, where you trust it"
            raise UserError(f"{folder} is in another database", got=found, expected=address, fix=fix)

    def check(
        self, folder: Path, *, engine: str, embedder: Mapping[str, Any], vector: Mapping[str, Any], gallery: str
    ) -> None:
        """Refuse an index in `folder` that does not fit the queries' engine, embedder, vector and gallery."""
        if self.embedder != (asked := json.loads(json.dumps(embedder))):
            seen, wanted = self.embedder.get("name"), asked.get("name")
            if seen == wanted:
                seen, wanted = (f"{by.get('name')} {fingerprint(by)[:12]}" for by in (self.embedder, asked))
            fix = f"embedder={self.embedder.get('name')}, or {REBUILD}"
            raise UserError(f"{folder} was built by another embedder", got=seen, expected=wanted, fix=fix)
        for what, seen, wanted in (
            ("is another engine's", self.engine, engine),
            ("holds other vectors of images", self.vector, dict(vector)),
            ("was built from another gallery", self.gallery[:12], gallery[:12]),
        ):
            if seen != wanted:
                raise UserError(f"{folder} {what}", got=seen, expected=wanted, fix=REBUILD)


def fill(index: VectorIndex, gallery: EmbeddedGallery) -> None:
    """Add the missing parts of a gallery to an index and prepare the search."""
    index.train(gallery)
    files, at_once = list(gallery.counts), index.files_at_once
    with progress_bar() as bar:
        task = bar.add_task("building the index", total=len(gallery))
        for part, start in enumerate(range(0, len(files), at_once)):
            if not index.has(part):
                index.add(part, map(gallery.read, files[start : start + at_once]))
            bar.advance(task, sum(gallery.counts[file] for file in files[start : start + at_once]))
    index.finish()


def check_queries(queries: np.ndarray, dim: int) -> None:
    """Refuse queries of another width than the index's vectors have."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        what = "the queries have another width than the index's vectors"
        fix = "the embedder, retrieve.vector and retrieve.coarse that the index was built with"
        raise UserError(what, got=queries.shape, expected=f"(queries, {dim})", fix=fix)
