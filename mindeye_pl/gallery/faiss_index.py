"""FAISS indices on disk: exact, IVF-PQ and HNSW, in memory-mapped shards.

Legend: n queries, k results for each, F width of a vector, N vectors in all.
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.lib.format import open_memmap
from threadpoolctl import threadpool_limits

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.embedded import PLACES, EmbeddedGallery, unit_rows
from mindeye_pl.gallery.index import check_queries
from mindeye_pl.gallery.source import Portion
from mindeye_pl.store.atomic import replacing, write_array
from mindeye_pl.store.own_files import run_again
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.types import OneOf, PositiveInt, Seed

#: The kind that keeps codes instead of vectors.
CODED = "ivf_pq"
#: FAISS's own descriptions of the kinds; `np` leaves out an ordering of codes for Hamming distances, minutes of work.
KINDS = {"flat": "Flat", "hnsw": "HNSW{links},Flat", CODED: "IVF{lists},PQ{code_bytes}np"}

#: K-means asks for so many vectors for each centre; a code of one byte has 256 of them.
_VECTORS_PER_CENTRE, _CODES = 39, 256

_TRAINED = "trained.faiss"


def load_faiss() -> Any:
    """Import FAISS on first use, without its log messages about processors."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss


@dataclass(frozen=True)
class FaissBuild:
    """Build settings of an index.

    Attributes:
        kind: one of `KINDS`.
        shard_size: approximate number of vectors in a shard; a kill loses the unfinished one.
        train_size: number of vectors that IVF-PQ is trained on, sampled uniformly.
        lists: number of lists of IVF; None for the power of two nearest to four times the square root of N.
        code_bytes: size of a vector in IVF-PQ; divides F.
        links: number of links of a vector in HNSW, whose graph needs two.
        ef_construction: number of candidates for a vector's links in HNSW.
        threads: number of threads; None for all, and one with HNSW, whose graph depends on their order.
        seed: of the sample that is trained on.
    """

    kind: Annotated[str, OneOf(KINDS)] = "flat"
    shard_size: PositiveInt = 262_144
    train_size: PositiveInt = 262_144
    lists: PositiveInt | None = None
    code_bytes: PositiveInt = 16
    links: Annotated[int, Ge(2)] = 32
    ef_construction: PositiveInt = 100
    threads: PositiveInt | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class FaissSearch:
    """Search settings: larger values are more exact and slower.

    Attributes:
        probes: number of lists that IVF searches.
        refine_factor: of ivf_pq, number of candidates for each result that `RefinedIndex` sorts by exact cosines; 1
            keeps the order of the codes.
        ef: number of candidates that HNSW keeps, at least k.
    """

    probes: PositiveInt = 32
    refine_factor: PositiveInt = 32
    ef: PositiveInt = 128


class FaissIndex:
    """A `VectorIndex` of shards `shard-00000.faiss`, each with a file of the places of its vectors.

    Args:
        folder: of the shards, finished or not.
        dim: F.
        build: build settings.
        search: search settings.
    """

    def __init__(self, folder: Path, dim: int, *, build: FaissBuild, search: FaissSearch):
        self.folder, self.dim = folder, dim
        self._build, self._search = build, search
        self.files_at_once = max(1, build.shard_size // PLACES)

    def train(self, gallery: EmbeddedGallery) -> None:
        """See `VectorIndex.train`; the centres of IVF-PQ, which all shards share.

        Raises a UserError for too few vectors, or a width that the bytes of a code do not divide.
        """
        path = self.folder / _TRAINED
        if path.exists():
            return
        count = min(len(gallery), self._build.train_size)
        with _threads(self._build.threads):
            index = self._empty(self._lists(count, len(gallery)))
            if not index.is_trained:
                if count < _CODES:
                    got, expected, fix = f"{count} vectors", f"{_CODES} or more", "index.build.kind=flat, or hnsw"
                    raise UserError("too few vectors to train IVF-PQ", got=got, expected=expected, fix=fix)
                index.train(gallery.sample(count, self._build.seed))
            _write(index, path)

    def _lists(self, count: int, total: int) -> int:
        usual = 2 ** round(math.log2(4 * math.sqrt(total)))
        return self._build.lists or max(1, min(usual, count // _VECTORS_PER_CENTRE))

    def _empty(self, lists: int) -> Any:
        faiss, build = load_faiss(), self._build
        if build.kind == CODED and self.dim % build.code_bytes:
            divisors = [size for size in (4, 8, 16, 32, 48, 64, 96) if self.dim % size == 0]
            what, got = "index.build.code_bytes does not divide the vectors' width", f"{build.code_bytes} bytes"
            fix = f"index.build.code_bytes={divisors[-1]}" if divisors else "index.build.kind=hnsw"
            raise UserError(what, got=f"{got} for {self.dim}", expected=f"one of {divisors}", fix=fix)
        description = KINDS[build.kind].format(lists=lists, code_bytes=build.code_bytes, links=build.links)
        index = faiss.index_factory(self.dim, description, faiss.METRIC_INNER_PRODUCT)
        if build.kind == "hnsw":
            index.hnsw.efConstruction = build.ef_construction
        return index

    def has(self, part: int) -> bool:
        """See `VectorIndex.has`."""
        return self._shard(part).exists()

    def add(self, part: int, portions: Iterable[Portion]) -> None:
        """See `VectorIndex.add`; the shard's name appears when it is whole."""
        index, places = self._trained(), []
        # A graph that several threads build depends on their order, so that builds would differ.
        with _threads(1 if self._build.kind == "hnsw" and self._build.threads is None else self._build.threads):
            for portion in portions:
                index.add(portion.content)
                places.append(portion.places)
        write_array(self._shard(part).with_suffix(".places.npy"), np.concatenate(places))
        _write(index, self._shard(part))

    def _trained(self) -> Any:
        path = self.folder / _TRAINED
        try:
            return load_faiss().read_index(str(check_regular(path)))
        except RuntimeError as error:
            raise UserError(f"{path} is damaged", got=str(error)[-120:], fix=run_again(path)) from error

    def finish(self) -> None:
        """See `VectorIndex.finish`."""
        self.close()

    def _shard(self, part: int) -> Path:
        return self.folder / f"shard-{part:05d}.faiss"

    @cached_property
    def _shards(self) -> list[tuple[Any, np.ndarray]]:
        """All shards with the places of their vectors, both memory-mapped."""
        faiss = load_faiss()
        # Lists of IVF are mapped by the one flag, vectors and graphs by the other.
        flags = faiss.IO_FLAG_MMAP if self._build.kind == CODED else faiss.IO_FLAG_MMAP_IFC
        shards = list[tuple[Any, np.ndarray]]()
        for path in sorted(self.folder.glob("shard-*.faiss")):
            try:
                index = faiss.read_index(str(check_regular(path)), flags | faiss.IO_FLAG_READ_ONLY)
                places = open_memmap(check_regular(path.with_suffix(".places.npy")), mode="r")
            except (RuntimeError, OSError, ValueError) as error:
                fix = f"rm -r {self.folder}"
                raise UserError(f"{path} is a damaged shard of an index", got=str(error)[-120:], fix=fix) from error
            shards.append((index, places))
        return shards

    def __len__(self) -> int:
        return sum(index.ntotal for index, _ in self._shards)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorIndex.search`."""
        faiss = load_faiss()
        check_queries(queries, self.dim)
        rows = unit_rows(queries)
        best, search = faiss.ResultHeap(len(rows), k, keep_max=True), self._shard_search(rows, k)
        for index, places in self._shards:
            cosines, found = search(index, min(k, index.ntotal))
            known = np.where(found < 0, -1, places[found])
            best.add_result(np.where(found < 0, -np.inf, cosines).astype(np.float32), known)
        best.finalize()
        return np.where(best.I < 0, -np.inf, best.D).astype(np.float32), best.I

    def _shard_search(self, rows: np.ndarray, k: int) -> Callable[[Any, int], tuple[np.ndarray, np.ndarray]]:
        """Return the search of a shard for at most k vectors: cosines and numbers in the shard."""
        if self._build.kind == CODED:
            first, _ = self._shards[0]
            probes = min(self._search.probes, first.nlist)
            centres = first.quantizer.search(rows, probes)  # the shards share them

            def search(index: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
                index.nprobe = probes
                found: tuple[np.ndarray, np.ndarray] = index.search_preassigned(rows, count, centres[1], centres[0])
                return found

            return search
        ef = load_faiss().SearchParametersHNSW(efSearch=max(self._search.ef, k)) if self._build.kind == "hnsw" else None
        return lambda index, count: index.search(rows, count, params=ef)

    def close(self) -> None:
        """See `VectorIndex.close`."""
        self.__dict__.pop("_shards", None)


def _write(index: Any, path: Path) -> None:
    with replacing(path) as temporary:
        load_faiss().write_index(index, str(temporary))


def _threads(count: int | None) -> threadpool_limits:
    """Limit the number of FAISS's threads inside a `with` block; None keeps it."""
    load_faiss()
    return threadpool_limits(count, user_api="openmp")
