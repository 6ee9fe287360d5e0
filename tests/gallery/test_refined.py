"""Re-ranked candidates stand in the order of an exact search, and bad files are refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mindeye_pl.errors import UserError
from mindeye_pl.gallery import embedded, refined
from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.faiss_index import FaissBuild, FaissIndex, FaissSearch
from mindeye_pl.gallery.files import VectorTable
from mindeye_pl.gallery.index import fill
from mindeye_pl.gallery.refined import RefinedIndex, exact_cosines
from tests.gallery.made import clustered, exact, recall
from tests.gallery.made import embedded as embedded_gallery

COUNT, WIDTH, K = 500, 16, 10


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedGallery:
    """Five files of 100 vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "PLACES", 100)
        return embedded_gallery(tmp_path_factory.mktemp("gallery") / "e", clustered(COUNT))


@pytest.fixture(scope="module")
def coarse(gallery: EmbeddedGallery, tmp_path_factory: pytest.TempPathFactory) -> FaissIndex:
    """IVF-PQ in three shards, with codes of two bytes and all lists searched."""
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mindeye_pl.gallery.faiss_index.PLACES", 100)
        build = FaissBuild(kind="ivf_pq", shard_size=200, lists=4, code_bytes=2)
        index = FaissIndex(folder, WIDTH, build=build, search=FaissSearch(probes=4))
        fill(index, gallery)
    return index


def queries(count: int = 40) -> np.ndarray:
    return clustered(count, seed=5) * 3  # of any length


def test_candidates_are_in_the_order_of_an_exact_search(gallery: EmbeddedGallery, coarse: FaissIndex) -> None:
    cosines, places = RefinedIndex(coarse, gallery, 4).search(queries(), K)
    candidates = coarse.search(queries(), 4 * K)[1]
    all_cosines, all_places = exact(clustered(COUNT), queries(), COUNT)
    for row, known in enumerate(candidates):
        order = all_places[row][np.isin(all_places[row], known)]  # the candidates, by an exact search
        np.testing.assert_array_equal(places[row], order[:K])
        true = all_cosines[row][np.isin(all_places[row], places[row])]
        np.testing.assert_allclose(cosines[row], true, atol=1e-6)
    assert (cosines.dtype, places.dtype) == (np.float32, np.int64)


def test_recall_grows_with_the_factor(gallery: EmbeddedGallery, coarse: FaissIndex) -> None:
    true = exact(clustered(COUNT), queries(), K)[1]
    recalls = [recall(RefinedIndex(coarse, gallery, factor).search(queries(), K)[1], true) for factor in (1, 2, 5, 20)]
    assert recalls == sorted(recalls)
    assert recalls[0] == recall(coarse.search(queries(), K)[1], true), "the same candidates in another order"
    assert recalls[0] < recalls[2]


def test_a_factor_that_covers_everything_equals_exact_search(
    gallery: EmbeddedGallery, coarse: FaissIndex, tmp_path: Path
) -> None:
    flat = FaissIndex(tmp_path, WIDTH, build=FaissBuild(), search=FaissSearch())
    fill(flat, gallery)
    for factor in (COUNT // K, COUNT):  # more candidates than vectors are all vectors
        cosines, places = RefinedIndex(coarse, gallery, factor).search(queries(), K)
        flat_cosines, flat_places = flat.search(queries(), K)
        np.testing.assert_array_equal(places, flat_places)
        np.testing.assert_allclose(cosines, flat_cosines, atol=1e-6)


def test_a_larger_k_than_the_gallery_leaves_empty_ranks(gallery: EmbeddedGallery, coarse: FaissIndex) -> None:
    index = RefinedIndex(coarse, gallery, 3)
    cosines, places = index.search(queries(2), COUNT + 5)
    assert len(index) == COUNT
    assert (np.sort(places[:, :COUNT], axis=1) == np.arange(COUNT)).all()
    assert (places[:, COUNT:] == -1).all()
    assert (cosines[:, COUNT:] == -np.inf).all()


def test_cosines_do_not_depend_on_how_many_are_read_at_once(
    gallery: EmbeddedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = np.random.default_rng(0).integers(-1, COUNT, (7, 60))
    asked = embedded.unit_rows(queries(7))
    whole = exact_cosines(gallery, asked, places)
    vectors = np.concatenate([gallery.read(file).content for file in gallery.counts])
    expected = np.where(places < 0, -np.inf, np.einsum("nf,nmf->nm", asked, vectors[places]))
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    monkeypatch.setattr(refined, "_BYTES_AT_ONCE", 17 * 4 * WIDTH)
    np.testing.assert_array_equal(exact_cosines(gallery, asked, places), whole)


def test_equal_vectors_are_in_the_order_of_their_places(tmp_path: Path) -> None:
    same = np.repeat(clustered(10), 30, axis=0)
    vectors = embedded_gallery(tmp_path / "e", same)
    (folder := tmp_path / "index").mkdir()
    index = FaissIndex(
        folder, WIDTH, build=FaissBuild(kind="ivf_pq", lists=1, code_bytes=2), search=FaissSearch(probes=1)
    )
    fill(index, vectors)
    assert RefinedIndex(index, vectors, 30).search(same[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_rows_are_those_of_the_files_behind_skipped_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PLACES", 10)
    table = clustered(40)
    table[[0, 3, *range(10, 20), 39]] = 0  # the second file has no vector
    np.save(tmp_path / "t.npy", table)
    (folder := tmp_path / "e").mkdir()
    embed_gallery(VectorTable(tmp_path / "t.npy"), folder, np.asarray, batch_size=4, skip_unreadable=True)
    vectors = EmbeddedGallery(folder)
    known = {}
    for file in vectors.counts:
        portion = vectors.read(file)
        known |= dict(zip(portion.places.tolist(), portion.content, strict=True))
    for places in ([1], [2, 4, 9, 20, 38], sorted(known), []):
        rows = vectors.rows(np.array(places, np.int64))
        np.testing.assert_array_equal(rows, np.array([known[place] for place in places]).reshape(-1, WIDTH))
    for missing in (0, 3, 15, 39, 40):
        with pytest.raises(UserError, match=rf"lacks a vector of the index \(got: no place {missing}\)\. Fix: rm -r"):
            vectors.rows(np.array(sorted({1, missing})))


def test_a_damaged_file_of_vectors_is_named(gallery: EmbeddedGallery, coarse: FaissIndex, tmp_path: Path) -> None:
    for path in gallery.folder.glob("v*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copy = EmbeddedGallery(tmp_path)
    damaged = tmp_path / "vectors-000000000200.safetensors"
    whole = damaged.read_bytes()
    content = load_file(str(damaged))
    damaged.write_bytes(whole[:-50])
    with pytest.raises(UserError, match=r"vectors-000000000200\.safetensors is damaged") as error:
        RefinedIndex(coarse, copy, 5).search(queries(), K)
    assert "\n" not in str(error.value)
    save_file({"places": content["places"]}, str(damaged))
    with pytest.raises(UserError, match="is damaged"):
        copy.rows(np.array([205]))
    damaged.unlink()
    with pytest.raises(UserError, match="is missing"):
        copy.rows(np.array([205]))
