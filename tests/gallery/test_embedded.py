"""Embedding a gallery once: the same vectors whenever it is stopped, and nothing left out unasked."""

from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.gallery import embedded
from mindeye_pl.gallery.embedded import EmbeddedGallery, check_unreadable, embed_gallery, unit_rows
from mindeye_pl.gallery.files import VectorTable, open_gallery
from mindeye_pl.gallery.source import Joined
from tests.gallery.made import SIDE, as_floats, clustered, images, write_folder, write_hdf5


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PLACES", 8)


def embed(batch: np.ndarray) -> np.ndarray:
    """The mean colour of each quarter, `(b, 12)`."""
    half = SIDE // 2
    return batch.astype(np.float32).reshape(len(batch), 3, 2, half, 2, half).mean((3, 5)).reshape(len(batch), -1)


def run(source: object, folder: Path, *, skip: bool = False, batch_size: int = 3) -> EmbeddedGallery:
    folder.mkdir(exist_ok=True)
    embed_gallery(source, folder, embed, batch_size=batch_size, skip_unreadable=skip)  # type: ignore[arg-type]
    return EmbeddedGallery(folder)


def content(gallery: EmbeddedGallery) -> tuple[np.ndarray, np.ndarray]:
    pieces = [gallery.read(file) for file in gallery.counts]
    return np.concatenate([p.places for p in pieces]), np.concatenate([p.content for p in pieces])


def test_vectors_are_those_of_the_embedder_with_length_1(tmp_path: Path) -> None:
    source = open_gallery(write_hdf5(tmp_path / "p.hdf5", images(21)), SIDE)
    gallery = run(source, tmp_path / "e")
    places, vectors = content(gallery)
    assert (len(gallery), gallery.dim, len(gallery.counts)) == (21, 12, 3)
    assert places.tolist() == list(range(21))
    np.testing.assert_allclose(vectors, unit_rows(embed(as_floats(images(21)))), atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    other = run(source, tmp_path / "other", batch_size=8)
    for one, two in zip(content(gallery), content(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_unreadable_image_is_refused_by_name_and_what_was_done_stays(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "p", images(21))
    (path / "part-1" / "015.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"part-1/015.png of the gallery is unreadable .*retrieve.unreadable=skip"):
        run(open_gallery(path, SIDE), tmp_path / "e")
    done = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "e").glob("vectors-*")}
    assert len(done) == 2
    gallery = run(open_gallery(path, SIDE), tmp_path / "e", skip=True)
    assert {name: (tmp_path / "e" / name).stat().st_mtime_ns for name in done} == done
    assert (len(gallery), gallery.num_unreadable, list(gallery.unreadable)) == (20, 1, ["part-1/015.png"])
    names = open_gallery(path, SIDE).names(np.arange(21))
    assert content(gallery)[0].tolist() == [place for place in range(21) if names[place] != "part-1/015.png"]


def test_omitted_images_are_reported_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = clustered(20)
    vectors[[3, 4, 9, 12]] = 0
    np.save(tmp_path / "t.npy", vectors)
    gallery = run(VectorTable(tmp_path / "t.npy"), tmp_path / "e", skip=True)
    check_unreadable(gallery, skip_unreadable=True)
    assert "skipped 4 unreadable: row 3 of t.npy, row 4 of t.npy, row 9 of t.npy and 1 more" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"row 3 of t\.npy of the gallery is unreadable"):
        check_unreadable(gallery, skip_unreadable=False)


def test_a_gallery_without_readable_images(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "p", images(3))
    for file in path.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"no image of the gallery is readable \(got: 3 unreadable, part-0/000.png"):
        run(open_gallery(path, SIDE), tmp_path / "e", skip=True)


def test_vectors_and_images_side_by_side(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", clustered(10, width=12))
    own = open_gallery(write_hdf5(tmp_path / "p.hdf5", images(3)), SIDE)
    gallery = run(Joined([VectorTable(tmp_path / "t.npy"), own]), tmp_path / "e")
    places, vectors = content(gallery)
    assert places.tolist() == list(range(13))
    np.testing.assert_allclose(vectors[:10], unit_rows(clustered(10, width=12)), atol=5e-4)
    np.testing.assert_allclose(vectors[10:], unit_rows(embed(as_floats(images(3)))), atol=5e-4)


def test_a_sample_is_of_the_vectors_and_follows_from_its_seed(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", clustered(50))
    gallery = run(VectorTable(tmp_path / "t.npy"), tmp_path / "e")
    everything = content(gallery)[1]
    sample = gallery.sample(20, seed=1)
    found = (sample[:, None] == everything[None]).all(2)  # (20, 50)
    assert found.any(1).all()
    assert (found.sum(0) <= 1).all(), "none twice"
    np.testing.assert_array_equal(gallery.sample(20, seed=1), sample)
    assert not np.array_equal(gallery.sample(20, seed=2), sample)
    np.testing.assert_array_equal(gallery.sample(100, seed=1), everything)


def test_a_failing_embedder_is_reported(tmp_path: Path) -> None:
    source = open_gallery(write_hdf5(tmp_path / "p.hdf5", np.zeros((2, SIDE, SIDE, 3), np.uint8)), SIDE)
    with pytest.raises(UserError, match=r"embedding of an image is zero or not finite \(got: stimulus 0"):
        run(source, tmp_path / "e")


def test_damaged_files_are_made_again(tmp_path: Path) -> None:
    source = open_gallery(write_hdf5(tmp_path / "p.hdf5", images(21)), SIDE)
    before = content(run(source, tmp_path / "e"))
    files = sorted((tmp_path / "e").glob("vectors-*"))
    files[0].write_bytes(files[0].read_bytes()[:-3])
    files[2].write_bytes(b"")
    kept = files[1].stat().st_mtime_ns
    for one, two in zip(content(run(source, tmp_path / "e")), before, strict=True):
        np.testing.assert_array_equal(one, two)
    assert files[1].stat().st_mtime_ns == kept


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"dim": 3, "files": 4}'])
def test_a_damaged_summary_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "vectors.json").write_text(text)
    with pytest.raises(UserError, match=f"Fix: rm -r {tmp_path}"):
        EmbeddedGallery(tmp_path)


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no complete embedded gallery"):
        EmbeddedGallery(tmp_path)
