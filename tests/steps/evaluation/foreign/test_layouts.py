"""Reconstructions in the layouts in which others publish them: arrays, archives, Brain-IT's and CortexDecoder's."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mindeye_pl.data.natural_order import natural_key
from mindeye_pl.steps.evaluation.foreign.images import check_reconstructions, companions, read_reconstructions_of
from tests.steps.evaluation.foreign.test_images import IDS, random_images, refuses, write_files


def bytes_of(images: torch.Tensor) -> np.ndarray:
    """Images `(N, H, W, 3)` uint8, as other people's arrays have them."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def write_archive(path: Path, names: list[str], images: torch.Tensor) -> None:
    folder = path.parent / f"{path.stem}-files"
    write_files(folder, [Path(name).name for name in names], images)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.write(folder / Path(name).name, name)
        archive.writestr("__MACOSX/._0.png", b"no image")
        archive.writestr("notes.txt", b"no image")


def write_table(path: Path, names: list[str], ids: list[int], header: str = "filename,nsd_index\n") -> None:
    path.write_text(header + "".join(f"{name},{id_}\n" for name, id_ in zip(names, ids, strict=True)))


@pytest.mark.parametrize("names", ["{}.png", "{:06d}.png", "{}.jpg", "img_{:04d}.png", "recon {}.JPEG"])
@pytest.mark.parametrize("start", [0, 1])
def test_numbered_files_are_read_in_natural_order(tmp_path: Path, names: str, start: int) -> None:
    images = random_images(12)
    write_files(tmp_path / "r", [names.format(start + index) for index in range(12)], images)
    found = read_reconstructions_of(tmp_path / "r", np.arange(40, 52))
    assert found.names == [names.format(start + index) for index in range(12)]
    assert found.stimulus_ids is None
    if "png" in names:
        torch.testing.assert_close(found.images[:], images)


def test_natural_order_puts_2_before_10() -> None:
    stems = ["b10", "b2", "a", "10", "2", "b2c1"]
    assert sorted(stems, key=natural_key) == ["2", "10", "a", "b2", "b2c1", "b10"]


@pytest.mark.parametrize("kind", ["uint8 last", "uint8 first", "float32 last", "float16 first"])
def test_arrays_have_their_channels_in_either_place(tmp_path: Path, kind: str) -> None:
    images = random_images()
    dtype, place = kind.split()
    array = bytes_of(images) if dtype == "uint8" else bytes_of(images).astype(dtype) / np.array(255, dtype)
    np.save(tmp_path / "r.npy", array if place == "last" else np.moveaxis(array, 3, 1))
    found = read_reconstructions_of(tmp_path / "r.npy", IDS)
    torch.testing.assert_close(found.images[:], images, atol=1e-3 if dtype == "float16" else 1e-6, rtol=0)
    torch.testing.assert_close(found.images[[3, 0]], found.images[:][[3, 0]])
    assert found.images.shape == tuple(images.shape)


def test_other_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    for array, says in (
        (np.zeros((5, 6, 6)), r"another array .got: \(5, 6, 6\)"),
        (np.zeros((5, 3, 6, 3)), r"another array .got: \(5, 3, 6, 3\)"),
        (np.zeros((5, 3, 6, 6), np.int64), "another array .got: int64"),
        (np.array([{"code": 1}], object), "cannot be read .got: .*Python objects"),
        (bytes_of(random_images(4)), r"not as many images as the test set .got: 4 images; expected: 5 images"),
    ):
        np.save(path, array, allow_pickle=True)
        refuses(says, path)
    path.write_bytes(path.read_bytes()[:-7])
    refuses("r.npy cannot be read", path)


def test_archives_are_read_without_unpacking(tmp_path: Path) -> None:
    images = random_images(12)
    write_archive(tmp_path / "r.zip", [f"final/{index}.png" for index in reversed(range(12))], images.flip(0))
    found = read_reconstructions_of(tmp_path / "r.zip", np.arange(40, 52))
    assert found.names == [f"{index}.png" for index in range(12)]
    torch.testing.assert_close(found.images[:], images)
    torch.testing.assert_close(found.images[[11, 2]], images[[11, 2]])
    check_reconstructions(tmp_path / "r.zip")
    refuses("not as many images as the test set .got: 12 images; expected: 5 images", tmp_path / "r.zip")


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    path.write_bytes(b"no archive")
    refuses("no whole zip archive", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", b"text")
    refuses("holds no images", path)


def test_brain_it_final_images_are_read(tmp_path: Path) -> None:
    images, others = random_images(), random_images().flip(0)
    subject = tmp_path / "subject_0"
    subject.mkdir()
    for kind, made in (("enhanced", images), ("semantic", others), ("low_level", others)):
        write_files(subject / kind, [f"img_{index:04d}.png" for index in range(len(made))], made)
        np.save(subject / f"{kind}_recons.npy", bytes_of(made))
    torch.testing.assert_close(read_reconstructions_of(subject, IDS).images[:], images)
    torch.testing.assert_close(read_reconstructions_of(subject / "low_level", IDS).images[:], others)
    torch.testing.assert_close(read_reconstructions_of(subject / "semantic_recons.npy", IDS).images[:], others)
    for file in (subject / "enhanced").iterdir():
        file.unlink()
    (subject / "enhanced").rmdir()
    torch.testing.assert_close(read_reconstructions_of(subject, IDS).images[:], images)  # of the array
    refuses("not as many images as the test set .got: 5 images; expected: 3 images", subject, IDS[:3])


@pytest.mark.parametrize("header", ["filename,nsd_index\n", "", "image,73k id\n"])
def test_cortexdecoder_images_have_the_ids_of_their_table(tmp_path: Path, header: str) -> None:
    images, order = random_images(), [4, 2, 0, 3, 1]
    names = [f"{place:04d}.png" for place in range(len(IDS))]
    write_archive(tmp_path / "final.zip", names, images[order])
    write_archive(tmp_path / "lowlevel.zip", names, images)
    write_table(tmp_path / "image_ids.csv", names, IDS[order].tolist(), header)
    for path in (tmp_path, tmp_path / "final.zip", tmp_path / "final-files"):
        found = read_reconstructions_of(path, IDS)
        torch.testing.assert_close(found.images[:], images)
        assert found.stimulus_ids is not None
        assert found.stimulus_ids.tolist() == IDS.tolist()
    assert companions(tmp_path / "final.zip") == [tmp_path / "image_ids.csv"]
    more = np.append(IDS, 8000)
    refuses("not as many images .* .got: 5 images, without stimulus 8000; expected: 6", tmp_path, more)


def test_tables_that_name_no_stimuli_are_refused(tmp_path: Path) -> None:
    names = [f"{place}.png" for place in range(len(IDS))]
    write_archive(tmp_path / "final.zip", names, random_images())
    table = tmp_path / "image_ids.csv"
    for content, says in (
        ("", "names no stimuli .got: 0 columns"),
        ("a,b\nother.png,3\n", "names no stimuli .got: 0 columns of the images' names"),
        ("".join(f"{name},{id_},{id_ + 1}\n" for name, id_ in zip(names, IDS, strict=True)), "2 of numbers"),
        ("name,id\n0.png,3\n1.png,17\n", r"no row of 2.png .got: 3 missing"),
        ("name,id\n0.png,3\n0.png,17\n", "two rows of 0.png"),
    ):
        table.write_text(content)
        refuses(says, tmp_path)
