"""A Milvus collection: on a cluster by its address, or embedded (`milvus-lite`) in a local file; the code is the same.

Legend: n queries, k images found for each, F width of a vector.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.embedded import EmbeddedGallery, unit_rows
from mindeye_pl.gallery.index import REBUILD, check_queries
from mindeye_pl.gallery.source import Portion
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.types import NonNegativeInt, PositiveFloat

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: In the index's folder: name of the collection and number of finished parts.
STATE = "collection.json"
#: Credentials of a cluster: "user:password" or a key. Not part of the configuration, which is saved.
TOKEN = "MILVUS_TOKEN"

_ID, _VECTOR = "place", "vector"
#: Milvus takes messages of up to 64 MB.
_BYTES_AT_ONCE = 8_000_000
_QUERIES_AT_ONCE = 256
#: The embedded engine logs the client's pings every ten seconds as an attack.
_NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": 0}


@dataclass(frozen=True)
class MilvusBuild:
    """Build settings of a collection.

    Attributes:
        uri: `http://HOST:19530` of a cluster, or a file that ends in `.db` for the embedded engine.
        index_type: of Milvus: FLAT, HNSW, IVF_FLAT, IVF_PQ, DISKANN, ...; the embedded engine knows some of them.
        params: of that type.
    """

    uri: str
    index_type: str = "HNSW"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _State:
    """Name of the collection, and number of finished parts."""

    collection: str
    parts: NonNegativeInt

    @classmethod
    def read(cls, path: Path) -> "_State":
        """Return the content of a file; raises a UserError if it is damaged."""
        try:
            return TypeAdapter(cls).validate_json(check_regular(path).read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            wanted = "the name of a collection and the number of its finished parts"
            raise UserError(f"{path} is damaged", got=error, expected=wanted, fix=REBUILD) from error


class MilvusIndex:
    """A `VectorIndex` in one Milvus collection.

    Args:
        folder: holds the collection's name and the number of finished parts; Milvus holds the vectors.
        dim: F.
        build: build settings.
        search: search parameters, for instance `{"ef": 128}`.
        timeout_s: maximum waiting time for an answer.
    """

    files_at_once = 1

    def __init__(
        self, folder: Path, dim: int, *, build: MilvusBuild, search: dict[str, Any], timeout_s: PositiveFloat = 60.0
    ):
        self.folder, self.dim = folder, dim
        self._build, self._search, self._timeout_s = build, search, timeout_s
        path = folder / STATE
        if not path.exists():
            write_json(path, asdict(_State(f"gallery_{uuid.uuid4().hex[:16]}", parts=0)))
        state = _State.read(path)
        self.collection, self._parts = state.collection, state.parts
        self._first_part = self._parts  # a killed process may have begun it

    @cached_property
    def _client(self) -> "MilvusClient":
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise UserError("index=milvus needs pymilvus", fix="pip install 'mindeye_pl[milvus]'") from error
        uri, options = self._build.uri, dict[str, Any]()
        if uri.endswith(".db"):
            uri = str(Path(uri).absolute())
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
            options["grpc_options"] = _NO_PINGS
        with self._speaking():
            return MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=self._timeout_s, **options)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn errors of Milvus and of the connection into one line."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError, ConnectionError, OSError) as error:
            what, got = f"Milvus at {self._build.uri} is not reachable, or refuses", getattr(error, "message", None)
            fix = f"index.build.uri=ADDRESS, {TOKEN}=USER:PASSWORD where asked, or index=faiss; finished parts stay"
            raise UserError(what, got=got or error, expected="a Milvus that answers", fix=fix) from error

    def train(self, gallery: EmbeddedGallery) -> None:
        """See `VectorIndex.train`; makes the collection. Milvus trains by itself."""
        client = self._client
        from pymilvus import DataType  # the client above says if it is not installed

        with self._speaking():
            if client.has_collection(self.collection):
                return
            if self._parts:
                raise self._lost()
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field(_ID, DataType.INT64, is_primary=True)
            schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=self.dim)
            client.create_collection(self.collection, schema=schema, timeout=self._timeout_s)

    def _lost(self) -> UserError:
        got, expected = f"no collection {self.collection}", f"the one that {self.folder} stands for"
        fix = f"rm -r {self.folder}, and run again; embedded vectors stay"
        return UserError(f"Milvus at {self._build.uri} has lost an index", got=got, expected=expected, fix=fix)

    def has(self, part: int) -> bool:
        """See `VectorIndex.has`."""
        return part < self._parts

    def add(self, part: int, portions: Iterable[Portion]) -> None:
        """See `VectorIndex.add`; vectors that a killed process inserted are replaced, not duplicated."""
        write = self._client.upsert if part == self._first_part else self._client.insert
        rows_at_once = max(1, _BYTES_AT_ONCE // (4 * self.dim))
        for portion in portions:
            placed = zip(portion.places.tolist(), portion.content, strict=True)
            rows = [{_ID: place, _VECTOR: vector} for place, vector in placed]
            with self._speaking():
                for start in range(0, len(rows), rows_at_once):
                    write(self.collection, rows[start : start + rows_at_once], timeout=self._timeout_s)
        self._parts = part + 1
        write_json(self.folder / STATE, asdict(_State(self.collection, self._parts)))

    def finish(self) -> None:
        """See `VectorIndex.finish`; builds the graph or the lists, which takes longest."""
        client = self._client
        with self._speaking():
            client.flush(self.collection)
            if not client.list_indexes(self.collection):
                index, build = client.prepare_index_params(), self._build
                index.add_index(_VECTOR, index_type=build.index_type, metric_type="COSINE", params=build.params)
                client.create_index(self.collection, index)
            client.load_collection(self.collection)

    @cached_property
    def _count(self) -> int:
        """Number of vectors in the collection, which is loaded now."""
        client = self._client
        with self._speaking():
            if not client.has_collection(self.collection):
                raise self._lost()
            client.load_collection(self.collection)
            return int(client.query(self.collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def __len__(self) -> int:
        return self._count

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorIndex.search`."""
        check_queries(queries, self.dim)
        rows, count = unit_rows(queries), len(self)
        options: Any = {"anns_field": _VECTOR, "output_fields": [_ID], "timeout": self._timeout_s}
        options |= {"limit": min(k, count), "search_params": {"metric_type": "COSINE", "params": self._search}}
        cosines = np.full((len(rows), k), -np.inf, np.float32)
        places = np.full((len(rows), k), -1, np.int64)
        for start in range(0, len(rows), _QUERIES_AT_ONCE):
            with self._speaking():
                found = self._client.search(self.collection, data=rows[start : start + _QUERIES_AT_ONCE], **options)
            for row, hits in enumerate(found, start):
                cosines[row, : len(hits)] = [hit["distance"] for hit in hits]
                places[row, : len(hits)] = [hit[_ID] for hit in hits]
        return cosines, places

    def close(self) -> None:
        """See `VectorIndex.close`."""
        if (client := self.__dict__.pop("_client", None)) is not None:
            client.close()
