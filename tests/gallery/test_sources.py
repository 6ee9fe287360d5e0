"""Every source of a gallery gives the same images under stable names, and names what it cannot read."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.files import VectorTable, open_gallery
from mindeye_pl.gallery.source import Gallery, Joined, Selected, portions
from tests.gallery.made import SIDE, as_floats, clustered, images, write_folder, write_hdf5, write_tar

COUNT = 7


def folder(root: Path) -> Path:
    return write_folder(root / "images", images(COUNT))


def tar(root: Path) -> Path:
    write_tar(root / "shards" / "00000.tar", images(COUNT)[:3])
    write_tar(root / "shards" / "00001.tar", images(COUNT)[3:], first=3)
    return root / "shards"


def hdf5(root: Path) -> Path:
    return write_hdf5(root / "images.hdf5", images(COUNT))


def made(name: str, root: Path) -> Path:
    return {"folder": folder, "tar": tar, "hdf5": hdf5}[name](root)


def read_all(gallery: Gallery) -> np.ndarray:
    return gallery.read(np.arange(len(gallery))).content


@pytest.mark.parametrize("kind", ["tar", "hdf5"])
def test_images_come_in_order_and_as_they_are(kind: str, tmp_path: Path) -> None:
    gallery = open_gallery(made(kind, tmp_path), SIDE)
    assert (len(gallery), gallery.holds_images) == (COUNT, True)
    np.testing.assert_array_equal(read_all(gallery), as_floats(images(COUNT)))
    some = gallery.read(np.array([1, 4]))
    assert some.places.tolist() == [1, 4]
    np.testing.assert_array_equal(some.content, as_floats(images(COUNT))[[1, 4]])


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    rows = images(COUNT)
    gallery = open_gallery(write_folder(tmp_path / "p", rows), SIDE)
    order = [0, 2, 4, 6, 1, 3, 5]  # of part-0, then of part-1
    assert gallery.names(np.arange(COUNT)) == [f"part-{number % 2}/{number:03d}.png" for number in order]
    np.testing.assert_array_equal(read_all(gallery), as_floats(rows[order]))


def test_files_of_macos_in_a_folder_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = open_gallery(folder(tmp_path), SIDE)
    names, fingerprint = whole.names(np.arange(COUNT)), whole.fingerprint()
    for image in list((tmp_path / "images").rglob("*.png")):
        image.with_name(f"._{image.name}").write_bytes(b"\0\5\x16\7 of another file system")
    capsys.readouterr()
    gallery = open_gallery(tmp_path / "images", SIDE)
    assert f"{COUNT} files of macOS (._*) are skipped" in " ".join(capsys.readouterr().out.split())
    assert (gallery.names(np.arange(COUNT)), gallery.fingerprint()) == (names, fingerprint)
    np.testing.assert_array_equal(read_all(gallery), read_all(whole))


def test_names_of_tar_shards_and_rows(tmp_path: Path) -> None:
    names = open_gallery(tar(tmp_path), SIDE).names(np.array([0, 2, 3, 6]))
    assert names == ["00000.tar/000000.png", "00000.tar/000002.png", "00001.tar/000003.png", "00001.tar/000006.png"]
    assert open_gallery(hdf5(tmp_path), SIDE).names(np.array([5])) == ["stimulus 5"]


@pytest.mark.parametrize("kind", ["folder", "tar", "hdf5"])
def test_a_copy_has_the_same_fingerprint_and_another_gallery_a_different_one(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (open_gallery(made(kind, tmp_path / name), SIDE) for name in ("a", "b"))
    assert first.fingerprint() == second.fingerprint()
    other = write_folder(tmp_path / "other", images(COUNT + 1))
    assert open_gallery(other, SIDE).fingerprint() != first.fingerprint()


def test_large_images_become_middle_squares(tmp_path: Path) -> None:
    rows = np.zeros((1, 40, 80, 3), np.uint8)
    rows[:, :, 20:60] = 255
    for path in (write_folder(tmp_path / "p", rows), write_tar(tmp_path / "p.tar", rows)):
        content = read_all(open_gallery(path, SIDE))
        assert content.shape == (1, 3, SIDE, SIDE)
        assert (content > 0.9).all(), "the white middle, its edges a little less"


@pytest.mark.parametrize("how", ["text", "cut"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_an_unreadable_image_is_named_and_the_others_are_read(how: str, kind: str, tmp_path: Path) -> None:
    path, name = made(kind, tmp_path), {"folder": "part-0/002.png", "tar": "00000.tar/000002.png"}[kind]
    if kind == "folder":
        broken = path / name
        broken.write_bytes(b"no image" if how == "text" else broken.read_bytes()[:200])
    else:
        shard = path / "00000.tar"
        content = bytearray(shard.read_bytes())
        start = content.index(b"\x89PNG", content.index(b"000002.png")) + (0 if how == "text" else 120)
        content[start : start + 300] = b"x" * 300
        shard.write_bytes(content)
    portion = open_gallery(path, SIDE).read(np.arange(COUNT))
    assert list(portion.unreadable) == [name]
    assert portion.unreadable[name]
    assert len(portion.places) == len(portion.content) == COUNT - 1


def test_an_image_that_holds_nan_is_named(tmp_path: Path) -> None:
    with h5py.File(hdf5(tmp_path), "r+") as file:
        file["images"][3, 0, 0, 0] = np.nan
    portion = open_gallery(tmp_path / "images.hdf5", SIDE).read(np.arange(COUNT))
    assert dict(portion.unreadable) == {"stimulus 3": "holds NaN or infinity"}
    assert portion.places.tolist() == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize("suffix", ["npy", "hdf5"])
def test_tables_of_vectors(suffix: str, tmp_path: Path) -> None:
    vectors, path = clustered(9), tmp_path / f"table.{suffix}"
    vectors[2], vectors[5, 1] = 0, np.inf
    if suffix == "npy":
        np.save(path, vectors)
    else:
        with h5py.File(path, "w") as file:
            file["vectors"] = vectors
    table = open_gallery(path, SIDE)
    assert isinstance(table, VectorTable)
    assert (len(table), table.width, table.holds_images) == (9, 16, False)
    portion = table.read(np.arange(1, 7))
    np.testing.assert_array_equal(portion.content, vectors[[1, 3, 4, 6]])
    assert dict(portion.unreadable) == {
        f"row 2 of table.{suffix}": "only zeros",
        f"row 5 of table.{suffix}": "holds NaN or infinity",
    }


def test_a_table_must_match_the_embedder_and_the_width(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", clustered(4))
    table = VectorTable(tmp_path / "table.npy")
    table.check("laptop", 16)
    with pytest.raises(UserError, match=r"another width .*got: 16; expected: 64, as embedder=laptop makes them"):
        table.check("laptop", 64)
    (tmp_path / "table.json").write_text('{"embedder": "openclip_l"}')
    with pytest.raises(UserError, match=r"another embedder .*got: openclip_l; expected: laptop"):
        table.check("laptop", 16)
    table.check("openclip_l", 16)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing.npy", None, "does not exist"),
        ("table.npy", b"not an array", "is damaged, or not a table"),
        ("movie.mp4", b"", "no known kind"),
        ("empty.hdf5", b"", "truncated or not an hdf5"),
        ("cut.tar", b"x" * 700, "truncated or not a tar"),
    ],
)
def test_other_paths_are_refused_as_galleries(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        len(open_gallery(tmp_path / name, SIDE))


def test_empty_galleries(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "table.npy", np.empty((0, 4), np.float32))
    write_tar(tmp_path / "shard.tar", images(0))
    write_hdf5(tmp_path / "images.hdf5", images(0))
    with pytest.raises(UserError, match="image folder is missing or empty"):
        open_gallery(tmp_path / "folder", SIDE)
    for name in ("table.npy", "shard.tar", "images.hdf5"):
        with pytest.raises(UserError, match="the gallery is empty"):
            len(open_gallery(tmp_path / name, SIDE))


def test_a_shard_that_was_cut_between_members(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "cut.tar", images(3))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"000002.png")])
    with pytest.raises(UserError, match=r"cut\.tar is truncated"):
        len(open_gallery(path, SIDE))


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="is damaged, or not a table"):
        open_gallery(tmp_path / "table.npy", SIDE)


def test_joined_and_selected_galleries(tmp_path: Path) -> None:
    first = open_gallery(tar(tmp_path), SIDE)
    second = Selected(open_gallery(hdf5(tmp_path), SIDE), np.array([2, 5]))
    joined = Joined([first, second])
    assert len(joined) == COUNT + 2
    assert joined.starts.tolist() == [0, COUNT, COUNT + 2]
    assert joined.names(np.array([0, COUNT, COUNT + 1])) == ["00000.tar/000000.png", "stimulus 2", "stimulus 5"]
    portion = joined.read(np.array([1, COUNT + 1]))
    assert portion.places.tolist() == [1, COUNT + 1]
    np.testing.assert_array_equal(portion.content, as_floats(images(COUNT))[[1, 5]])
    assert joined.fingerprint() != first.fingerprint()


@pytest.mark.parametrize(("sizes", "size"), [((10,), 4), ((8,), 4), ((3, 5), 4), ((4, 4, 1), 4), ((1,), 100)])
def test_blocks_cover_every_row_once(sizes: tuple[int, ...], size: int) -> None:
    class Sized:
        def __init__(self, count: int):
            self.count, self.holds_images = count, True

        def __len__(self) -> int:
            return self.count

    joined = Joined([Sized(count) for count in sizes])  # type: ignore[list-item]
    bounds = portions(joined, size)
    assert [place for low, high in bounds for place in range(low, high)] == list(range(sum(sizes)))
    assert all(high - low <= size for low, high in bounds)
    assert set(joined.starts.tolist()) <= {0, *(high for _, high in bounds)}
