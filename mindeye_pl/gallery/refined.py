"""Exact order among the candidates of an index that keeps codes instead of vectors.

Legend: n queries, k results for each, m candidates for each, F width of a vector.
"""

import numpy as np

from mindeye_pl.gallery.embedded import EmbeddedGallery, unit_rows
from mindeye_pl.gallery.index import SearchedIndex
from mindeye_pl.types import PositiveInt

#: Memory of the vectors that are read at once.
_BYTES_AT_ONCE = 2**26


class RefinedIndex:
    """A `SearchedIndex` that sorts the candidates of another one by their exact cosines.

    Only candidates are read, from the mapped files of the embedded gallery, so that memory depends neither on the
    gallery's size nor on the number of queries.

    Args:
        index: gives the candidates.
        vectors: the gallery that it was built from.
        factor: number of candidates for each of the k results.
    """

    def __init__(self, index: SearchedIndex, vectors: EmbeddedGallery, factor: PositiveInt):
        self._index, self._vectors, self._factor = index, vectors, factor

    def __len__(self) -> int:
        return len(self._index)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `SearchedIndex.search`; of equal cosines, the first place comes first."""
        candidates = max(k, min(k * self._factor, len(self)))
        _, places = self._index.search(queries, candidates)  # (n, m)
        cosines = exact_cosines(self._vectors, unit_rows(queries), places)
        order = np.lexsort((places, -cosines))[:, :k]
        return np.take_along_axis(cosines, order, 1), np.take_along_axis(places, order, 1)

    def close(self) -> None:
        """See `SearchedIndex.close`."""
        self._index.close()


def exact_cosines(vectors: EmbeddedGallery, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the cosines `(n, m)` float32 of queries `(n, F)` of length 1 and the vectors at places `(n, m)`.

    A place of -1 has cosine -inf. Pairs are computed in the order of the places, so that files are mapped one after the
    other.
    """
    cosines = np.full(places.size, -np.inf, np.float32)
    order = np.argsort(places, axis=None, kind="stable")
    order = order[places.flat[order] >= 0]
    pairs_at_once = max(1, _BYTES_AT_ONCE // (4 * vectors.dim))
    for start in range(0, len(order), pairs_at_once):
        pairs = order[start : start + pairs_at_once]
        found, rows = np.unique(places.flat[pairs], return_inverse=True)
        asked = queries[pairs // places.shape[1]]
        cosines[pairs] = np.einsum("pf,pf->p", asked, vectors.rows(found)[rows])
    return cosines.reshape(places.shape)
