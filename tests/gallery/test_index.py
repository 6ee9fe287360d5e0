"""Every kind of index finds what an exact search in float64 finds, and says what is wrong with it."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.gallery import embedded
from mindeye_pl.gallery.embedded import EmbeddedGallery
from mindeye_pl.gallery.faiss_index import FaissBuild, FaissIndex, FaissSearch
from mindeye_pl.gallery.index import MANIFEST, IndexManifest, VectorIndex, fill
from mindeye_pl.gallery.milvus_index import STATE, MilvusBuild, MilvusIndex
from tests.gallery.made import clustered, exact, recall
from tests.gallery.made import embedded as embedded_gallery

needs_milvus = pytest.mark.skipif(importlib.util.find_spec("pymilvus") is None, reason="needs pip install -e .[milvus]")

COUNT, WIDTH, K = 500, 16, 10
Make = Callable[[Path], VectorIndex]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PLACES", 100)
    monkeypatch.setattr("mindeye_pl.gallery.faiss_index.PLACES", 100)


def faiss_index(folder: Path, kind: str = "flat", **changes: object) -> FaissIndex:
    build = FaissBuild(kind=kind, shard_size=200, lists=4, code_bytes=8, **changes)  # type: ignore[arg-type]
    return FaissIndex(folder, WIDTH, build=build, search=FaissSearch(probes=4, ef=64))


def milvus_index(folder: Path, index_type: str = "FLAT", uri: str | None = None) -> MilvusIndex:
    build = MilvusBuild(uri or str(folder.with_suffix(".db")), index_type, {"M": 16, "efConstruction": 100})
    return MilvusIndex(folder, WIDTH, build=build, search={"ef": 64}, timeout_s=20)


KINDS: dict[str, tuple[Make, float]] = {
    "flat": (faiss_index, 1.0),
    "hnsw": (lambda folder: faiss_index(folder, "hnsw"), 0.97),
    "ivf_pq": (lambda folder: faiss_index(folder, "ivf_pq"), 0.6),
    "milvus flat": (milvus_index, 1.0),
    "milvus hnsw": (lambda folder: milvus_index(folder, "HNSW"), 0.97),
}
EVERY_KIND = [pytest.param(name, marks=[needs_milvus] if "milvus" in name else []) for name in KINDS]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedGallery:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "PLACES", 100)
        return embedded_gallery(tmp_path_factory.mktemp("gallery") / "e", clustered(COUNT))


def queries(count: int = 40) -> np.ndarray:
    return clustered(count, seed=5)[:, :WIDTH] * 3  # of any length


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_finds_what_is_nearest(kind: str, gallery: EmbeddedGallery, tmp_path: Path) -> None:
    make, wanted = KINDS[kind]
    (folder := tmp_path / "index").mkdir()
    index = make(folder)
    fill(index, gallery)
    index.close()
    index = make(folder)  # as another process opens it
    assert len(index) == COUNT
    cosines, places = index.search(queries(), K)
    true_cosines, true_places = exact(clustered(COUNT), queries(), K)
    assert (cosines.shape, places.shape, places.dtype) == ((40, K), (40, K), np.int64)
    assert recall(places, true_places) >= wanted
    assert (np.diff(cosines, axis=1) <= 1e-6).all(), "the most similar first"
    if wanted == 1:
        np.testing.assert_array_equal(places, true_places)
        np.testing.assert_allclose(cosines, true_cosines, atol=1e-5)
    itself = index.search(clustered(COUNT)[[7, 311]], 1)[1][:, 0]
    assert itself.tolist() == [7, 311]
    with pytest.raises(UserError, match=r"another width than the index's vectors .*expected: \(queries, 16\)"):
        index.search(np.ones((2, WIDTH + 1)), K)
    index.close()


@pytest.mark.parametrize("kind", EVERY_KIND[::3])
def test_a_larger_top_k_than_the_index_leaves_empty_ranks(kind: str, tmp_path: Path) -> None:
    few = embedded_gallery(tmp_path / "e", clustered(5))
    (folder := tmp_path / "index").mkdir()
    index = KINDS[kind][0](folder)
    fill(index, few)
    cosines, places = index.search(queries(2), 8)
    assert (np.sort(places[:, :5], axis=1) == np.arange(5)).all()
    assert (places[:, 5:] == -1).all()
    assert (cosines[:, 5:] == -np.inf).all()
    index.close()


def test_positions_in_the_gallery_are_found(tmp_path: Path) -> None:
    """With some left out, the two differ."""
    from mindeye_pl.gallery.files import VectorTable

    vectors = clustered(COUNT)
    vectors[[0, 1, 250]] = 0
    np.save(tmp_path / "t.npy", vectors)
    (tmp_path / "e").mkdir()
    embedded.embed_gallery(
        VectorTable(tmp_path / "t.npy"), tmp_path / "e", np.asarray, batch_size=64, skip_unreadable=True
    )
    (folder := tmp_path / "index").mkdir()
    index = faiss_index(folder)
    fill(index, EmbeddedGallery(tmp_path / "e"))
    assert len(index) == COUNT - 3
    assert index.search(vectors[[2, 249, 251, 499]], 1)[1][:, 0].tolist() == [2, 249, 251, 499]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
def test_two_builds_are_the_same_bytes(kind: str, gallery: EmbeddedGallery, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        fill(faiss_index(folder, kind), gallery)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two
    assert {"trained.faiss", "shard-00000.faiss", "shard-00002.places.npy"} <= one.keys()


def test_shards_are_mapped_not_read(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    for kind in ("flat", "hnsw", "ivf_pq"):
        (folder := tmp_path / kind).mkdir()
        fill(faiss_index(folder, kind), gallery)
        index = faiss_index(folder, kind)
        assert len(index) == COUNT
        mapped = Path("/proc/self/maps").read_text()
        assert str(folder / "shard-00000.faiss") in mapped, kind
        index.close()


def test_bad_settings(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    index = FaissIndex(tmp_path, WIDTH, build=FaissBuild(kind="ivf_pq", code_bytes=5), search=FaissSearch())
    with pytest.raises(UserError, match=r"does not divide .*5 bytes for 16; expected: one of \[4, 8, 16\]"):
        index.train(gallery)
    few = embedded_gallery(tmp_path / "e", clustered(200))
    with pytest.raises(UserError, match=r"too few vectors to train IVF-PQ \(got: 200 vectors; expected: 256 or more"):
        faiss_index(tmp_path, "ivf_pq").train(few)


def test_a_damaged_shard_is_named(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    fill(faiss_index(tmp_path), gallery)
    path = tmp_path / "shard-00001.faiss"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"shard-00001\.faiss is a damaged shard"):
        len(faiss_index(tmp_path))


def test_damaged_centres_are_named(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    """An index that was killed before its shards."""
    (index := faiss_index(tmp_path, "ivf_pq")).train(gallery)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=f"{path.name} is damaged .*Fix: rm {path}, and run again"):
        fill(index, gallery)


@needs_milvus
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "http://nowhere.invalid:19530"])
def test_milvus_that_does_not_answer(uri: str, gallery: EmbeddedGallery, tmp_path: Path) -> None:
    index = MilvusIndex(tmp_path, WIDTH, build=MilvusBuild(uri), search={}, timeout_s=2)
    with pytest.raises(UserError, match=rf"Milvus at {uri} is not reachable.*index.build.uri=ADDRESS"):
        fill(index, gallery)


@needs_milvus
def test_milvus_that_lost_the_collection(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    (folder := tmp_path / "index").mkdir()
    index = milvus_index(folder)
    fill(index, gallery)
    index._client.drop_collection(index.collection)
    index.close()
    with pytest.raises(UserError, match="has lost an index"):
        len(milvus_index(folder))


@needs_milvus
def test_milvus_resumes_and_inserts_nothing_twice(gallery: EmbeddedGallery, tmp_path: Path) -> None:
    """Stopped after three parts are in and only two are noted, as a kill between the two leaves it."""
    (folder := tmp_path / "index").mkdir()
    index = milvus_index(folder)
    index.train(gallery)
    for part in range(3):
        index.add(part, [gallery.read(list(gallery.counts)[part])])
    state = json.loads((folder / STATE).read_text())
    assert state["parts"] == 3
    (folder / STATE).write_text(json.dumps(state | {"parts": 2}))
    index.close()
    again = milvus_index(folder)
    fill(again, gallery)
    assert len(again) == COUNT
    np.testing.assert_array_equal(again.search(queries(), K)[1], exact(clustered(COUNT), queries(), K)[1])
    again.close()


def manifest(**changes: object) -> IndexManifest:
    plain = {
        "engine": "faiss",
        "build": {"kind": "flat"},
        "embedder": {"name": "laptop", "files": {"clip.safetensors": "abc"}},
        "vector": {"kind": "flattened"},
        "gallery": "f" * 64,
        "dim": 4,
        "count": 9,
    }
    return IndexManifest(**(plain | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedder": {"name": "openclip_l"}}, "embedder (got: laptop; expected: openclip_l). Fix: embedder=laptop"),
        ({"embedder": {"name": "laptop", "files": {}}}, "another embedder (got: laptop "),
        ({"engine": "milvus"}, "is another engine's (got: faiss; expected: milvus)"),
        ({"vector": {"kind": "projected", "width": 8}}, "holds other vectors"),
        ({"gallery": "e" * 64}, "was built from another gallery (got: ffffffffffff; expected: eeeeeeeeeeee)"),
    ],
)
def test_an_index_is_refused_by_name(change: dict[str, object], words: str, tmp_path: Path) -> None:
    own = manifest()
    own.write(tmp_path)
    read = IndexManifest.read(tmp_path)
    assert read == own
    asked = {"engine": own.engine, "embedder": own.embedder, "vector": own.vector, "gallery": own.gallery}
    read.check(tmp_path, **asked)  # type: ignore[arg-type]
    with pytest.raises(UserError) as error:
        read.check(tmp_path, **(asked | change))  # type: ignore[arg-type]
    assert words in str(error.value)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no index"):
        IndexManifest.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "{", '{"dim": "4"}', json.dumps(asdict(manifest()) | {"embedder": 3}), json.dumps({"build": {}})],
)
def test_a_damaged_manifest(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UserError, match="holds no index"):
        IndexManifest.read(tmp_path)


def test_build_settings_of_a_foreign_manifest(tmp_path: Path) -> None:
    """They are values of the engine's class, whatever else the file names."""
    malice = {"_target_": "pathlib.Path.touch", "_args_": [str(tmp_path / "executed")]}
    assert manifest(build={"kind": "hnsw"} | malice).build_settings(tmp_path, FaissBuild) == FaissBuild(kind="hnsw")
    for build in ({"kind": malice}, {"kind": "flat", "links": malice}, {"kind": "best"}, {"shard_size": 0}):
        with pytest.raises(UserError, match=r"index\.json is damaged"):
            manifest(build=build).build_settings(tmp_path, FaissBuild)
    assert not (tmp_path / "executed").exists()


def test_a_foreign_address_is_not_used(tmp_path: Path) -> None:
    """The client would send it the user's credentials."""
    own = manifest(engine="milvus", build={"uri": "http://elsewhere:19530"})
    own.check_address(tmp_path, "http://elsewhere:19530")
    with pytest.raises(UserError, match=r"another database \(got: http://elsewhere:19530; expected: here\.db\)"):
        own.check_address(tmp_path, "here.db")
    manifest().check_address(tmp_path, None)
