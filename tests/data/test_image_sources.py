"""Image sources: square crops, sizes and crops, and the order of batches."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mindeye_pl.data.image_datamodule import ShuffledBatches
from mindeye_pl.data.image_sources import ImageFile, ImageFolder
from mindeye_pl.errors import UserError


def ramp(height: int, width: int) -> np.ndarray:
    """Return an image that encodes rows in red and columns in green, `(H, W, 3)` uint8."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_image_folder_reads_centre_crops(tmp_path: Path) -> None:
    Image.fromarray(ramp(40, 80)).save(tmp_path / "a_wide.png")
    Image.fromarray(ramp(200, 100)).save(tmp_path / "b_tall.png")
    Image.fromarray(ramp(20, 20)).save(tmp_path / "c_square.png")
    folder = ImageFolder(tmp_path, 20)
    images = folder.read(np.arange(3))
    assert images.shape == (3, 3, 20, 20)
    assert images.dtype == np.float16
    # 40 x 80 becomes 20 x 40, of which columns 10 to 30 remain: columns 20 to 60 of the original.
    np.testing.assert_allclose(images[0, 1, 10, [0, -1]] * 255, [20.5, 58.5], atol=1)
    np.testing.assert_allclose(images[1, 0, [0, -1], 10] * 255, [52, 147], atol=1.5)
    np.testing.assert_allclose(images[2, 0, :, 3] * 255, np.arange(20), atol=0.1)
    expected = [[40, 80, 0, 10], [200, 100, 10, 0], [20, 20, 0, 0]]
    np.testing.assert_array_equal(folder.size_and_crop(np.arange(3)), expected)
    np.testing.assert_array_equal(folder.size_and_crop(np.array([2, 0])), [expected[2], expected[0]])


def test_image_folder_applies_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    Image.fromarray(ramp(40, 80)).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    folder = ImageFolder(tmp_path, 40)
    np.testing.assert_array_equal(folder.size_and_crop(np.array([0])), [[80, 40, 20, 0]])
    red = folder.read(np.array([0]))[0, 0].astype(np.float32) * 255
    np.testing.assert_allclose(red[20, [0, -1]], [39, 0], atol=4)  # the original's rows run from right to left


def test_damaged_image_raises_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    for read in (ImageFolder(tmp_path, 8).read, ImageFolder(tmp_path, 8).size_and_crop):
        with pytest.raises(UserError, match=r"a\.png is damaged or not an image"):
            read(np.array([0]))


def test_folder_fingerprint_depends_on_names_and_sizes_only(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        (folder / "below").mkdir(parents=True)
        for name in ("a.png", "below/b.png"):
            Image.new("RGB", (8, 8)).save(folder / name)
    first = ImageFolder(here, 8).fingerprint()
    assert ImageFolder(there, 8).fingerprint() == first
    Image.fromarray(ramp(8, 8)).save(there / "a.png")  # another image under the same name
    assert ImageFolder(there, 8).fingerprint() != first
    (here / "a.png").rename(here / "c.png")
    assert ImageFolder(here, 8).fingerprint() != first


def test_hdf5_images_are_resized(tmp_path: Path) -> None:
    path = tmp_path / "images.hdf5"
    images = np.tile((ramp(40, 80) / 255).astype(np.float16).transpose(2, 0, 1), (3, 1, 1, 1))
    with h5py.File(path, "w") as file:
        file["images"] = images
    read = ImageFile(path, 20)
    assert len(read) == 3
    assert read.read(np.array([1])).dtype == np.float16
    np.testing.assert_allclose(read.read(np.array([1]))[0, 1, 10, [0, -1]] * 255, [20.5, 58.5], atol=1)
    np.testing.assert_array_equal(read.size_and_crop(np.array([2, 0])), [[40, 80, 0, 10]] * 2)


def test_hdf5_images_of_the_right_size_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "images.hdf5"
    images = np.random.default_rng(0).random((3, 3, 8, 8)).astype(np.float16)
    with h5py.File(path, "w") as file:
        file["images"] = images
    read = ImageFile(path, 8)
    np.testing.assert_array_equal(read.read(np.array([2, 0])), images[[2, 0]])
    np.testing.assert_array_equal(read.size_and_crop(np.array([1])), [[8, 8, 0, 0]])
    first = read.fingerprint()
    with h5py.File(path, "w") as file:
        file["images"] = (images * 255).astype(np.uint8)
    np.testing.assert_allclose(ImageFile(path, 8).read(np.array([1])), images[[1]], atol=1 / 255)
    assert ImageFile(path, 8).fingerprint() != first


def test_missing_hdf5_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        ImageFile(tmp_path / "none.hdf5", 8)


@pytest.mark.parametrize("steps_per_epoch", [None, 1, 3, 4, 9])
def test_epochs_of_any_length_use_the_same_passes(steps_per_epoch: int | None) -> None:
    """A pass has four batches and contains each image at most once, for any epoch length."""
    ids = np.arange(100, 117)
    batches = ShuffledBatches(ids, 4, seed=3, steps_per_epoch=steps_per_epoch)
    seen = []
    for epoch in range(9):
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert len(drawn) == len(batches) == (steps_per_epoch or 4)
        seen += drawn
    reference = ShuffledBatches(ids, 4, seed=3)
    for number in range(len(seen) // 4):
        reference.set_epoch(number)
        one_pass = seen[4 * number : 4 * number + 4]
        np.testing.assert_array_equal(one_pass, list(reference))
        assert len(set(np.concatenate(one_pass))) == 16


@pytest.mark.parametrize("steps_per_epoch", [None, 6])
def test_ranks_read_disjoint_images(steps_per_epoch):
    ids, ranks = np.arange(24), []
    for rank in range(2):
        sampler = ShuffledBatches(ids, 4, seed=3, steps_per_epoch=steps_per_epoch, rank=rank, world_size=2)
        sampler.set_epoch(1)
        ranks.append(np.concatenate(list(sampler)))
        assert len(sampler) == 3
    assert sorted(np.concatenate(ranks)) == list(range(24))
