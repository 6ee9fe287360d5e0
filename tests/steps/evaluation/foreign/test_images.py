import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.foreign.images import ForeignReconstructions, companions, read_reconstructions_of

IDS = np.array([3, 17, 20, 105, 7000])
SIZE = 6


def random_images(count: int = len(IDS), size: int = SIZE) -> torch.Tensor:
    """Images of whole 255ths, none like another."""
    values = np.random.default_rng(0).integers(0, 256, (count, 3, size, size))
    return torch.from_numpy(values).float() / 255


def write_files(folder: Path, names: list[str], images: torch.Tensor) -> None:
    folder.mkdir(exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / name)


def refuses(says: str, path: Path, ids: np.ndarray = IDS) -> None:
    """Opening refuses, in one line."""
    with pytest.raises(UserError, match=says) as caught:
        read_reconstructions_of(path, ids)
    assert "\n" not in str(caught.value)


def refuses_to_read(says: str, path: Path) -> None:
    """Opening does, and reading every image does not."""
    found = read_reconstructions_of(path, IDS)
    with pytest.raises(UserError, match=says):
        found.images[:]


def assert_are(found: ForeignReconstructions, images: torch.Tensor, **tolerance) -> None:
    assert len(found.images) == len(found.names) == len(images)
    assert found.images.shape == tuple(images.shape)
    torch.testing.assert_close(found.images[:], images, **tolerance)
    torch.testing.assert_close(torch.cat([found.images[:2], found.images[2:]]), images, **tolerance)
    torch.testing.assert_close(found.images[np.array([2, 0, 2])], images[[2, 0, 2]], **tolerance)
    torch.testing.assert_close(found.images[1], images[1], **tolerance)
    assert found.images[:].dtype == torch.float32


BY_ID = {
    "padded": lambda id_: f"{id_:05d}.png",
    "plain": lambda id_: f"{id_}.PNG",
    "named": lambda id_: f"stimulus_{id_}.png",
    "dashed": lambda id_: f"Stimulus-{id_}.png",
}


@pytest.mark.parametrize("kind", BY_ID)
def test_files_are_matched_by_the_ids_in_their_names(tmp_path: Path, kind: str) -> None:
    images, shuffled = random_images(), [4, 2, 0, 3, 1]
    write_files(tmp_path / "r", [BY_ID[kind](IDS[i]) for i in shuffled], images[shuffled])
    (tmp_path / "r" / "notes.txt").write_text("not an image")
    (tmp_path / "r" / ".hidden.png").write_text("neither")
    found = read_reconstructions_of(tmp_path / "r", IDS)
    assert_are(found, images)
    assert found.stimulus_ids is not None
    assert found.stimulus_ids.tolist() == IDS.tolist()
    assert found.names == [BY_ID[kind](id_) for id_ in IDS]
    assert found.captions is None


def test_files_without_ids_are_taken_in_order_numbers_as_numbers(tmp_path: Path) -> None:
    images = random_images(12)
    write_files(tmp_path / "r", [f"seed42_recon{index}.png" for index in range(12)], images)
    found = read_reconstructions_of(tmp_path / "r", np.arange(40, 52))
    assert_are(found, images)
    assert found.stimulus_ids is None


@pytest.mark.parametrize("first", [0, 1])
def test_files_whose_numbers_are_no_ids(tmp_path: Path, first: int) -> None:
    images = random_images()
    write_files(tmp_path / "r", [f"{first + index:05d}.png" for index in range(5)], images)
    found = read_reconstructions_of(tmp_path / "r", IDS)
    assert_are(found, images)
    assert found.stimulus_ids is None
    named = read_reconstructions_of(tmp_path / "r", np.arange(first, first + 5))
    assert named.stimulus_ids is not None, "here the same numbers are the ids"


def test_jpeg_grey_and_transparent_files(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    smooth = np.broadcast_to(np.linspace(40, 200, 16).astype(np.uint8), (16, 16))
    Image.fromarray(smooth).save(folder / "3.jpeg", quality=100)
    Image.fromarray(smooth).save(folder / "17.png")
    Image.fromarray(np.stack([smooth] * 4, -1)).save(folder / "20.png")
    found = read_reconstructions_of(folder, IDS[:3])
    wanted = torch.from_numpy(smooth.copy()).float().expand(3, 3, -1, -1) / 255
    assert_are(found, wanted, atol=3 / 255, rtol=0)


PUBLISHED = ["_all_recons.pt", "_all_enhancedrecons.pt", "_all_blurryrecons.pt", "_recons_img2img0.85_16samples.pt"]


@pytest.mark.parametrize("end", PUBLISHED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.uint8])
def test_published_tensors(tmp_path: Path, end: str, dtype: torch.dtype) -> None:
    images, path = random_images(), tmp_path / f"subj01{end}"
    torch.save((images * 255).round().byte() if dtype == torch.uint8 else images.to(dtype), path)
    found = read_reconstructions_of(str(path), IDS)
    assert_are(found, images, atol=5e-4 if dtype == torch.float16 else 1e-6, rtol=0)
    assert found.stimulus_ids is None
    assert found.names[2] == f"image 2 of {path.name}"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [np.array, list])
def test_published_captions_beside_reconstructions(tmp_path: Path, kind: Callable, zipped: bool) -> None:
    said = ["a dog", "a red bus", "two people", "a kite é", "food"]
    torch.save(random_images(), tmp_path / "m_all_enhancedrecons.pt", _use_new_zipfile_serialization=zipped)
    torch.save(kind(said), tmp_path / "m_all_predcaptions.pt", _use_new_zipfile_serialization=zipped)
    assert read_reconstructions_of(tmp_path / "m_all_enhancedrecons.pt", IDS).captions == said
    torch.save(kind(said[:4]), tmp_path / "m_all_predcaptions.pt")
    refuses(r"captions of .*got: 4 captions; expected: 5, one for each", tmp_path / "m_all_enhancedrecons.pt")


def test_blurry_images_beside_refined_ones(tmp_path: Path) -> None:
    refined, blurry = tmp_path / "m_all_enhancedrecons.pt", tmp_path / "m_all_blurryrecons.pt"
    torch.save(random_images(), refined)
    assert read_reconstructions_of(refined, IDS).blurry is None
    assert companions(refined) == []
    torch.save(random_images() / 2, blurry)
    found = read_reconstructions_of(refined, IDS)
    assert found.blurry is not None
    torch.testing.assert_close(found.blurry[:], random_images() / 2)
    assert companions(refined) == [blurry]
    torch.save(random_images()[:4], blurry)
    refuses("holds others than .*got: 4 images; expected: 5", refined)
    torch.save(random_images(), tmp_path / "m_all_recons.pt")
    assert read_reconstructions_of(tmp_path / "m_all_recons.pt", IDS).blurry is None, "not refined"


def write_own(folder: Path, order: list[int]) -> torch.Tensor:
    folder.mkdir()
    images = random_images()
    tensors = {"stimulus_ids": torch.from_numpy(IDS), "images": images.half(), "blurry_images": (images / 2).half()}
    save_file(
        {name: rows[order].contiguous() for name, rows in tensors.items()}, folder / "reconstructions.safetensors"
    )
    (folder / "captions.json").write_text(json.dumps([f"image {IDS[i]}" for i in order]))
    return images


def test_our_own_folders(tmp_path: Path) -> None:
    images = write_own(tmp_path / "own", [1, 0, 2, 4, 3])
    for path in (tmp_path / "own", tmp_path / "own" / "reconstructions.safetensors"):
        found = read_reconstructions_of(path, IDS)
        assert_are(found, images, atol=5e-4, rtol=0)
        assert found.captions == [f"image {id_}" for id_ in IDS]
        assert found.stimulus_ids is not None
        assert found.stimulus_ids.tolist() == IDS.tolist()
        assert found.names[0] == "stimulus 3 of reconstructions.safetensors"


def test_captions_for_a_folder_of_images(tmp_path: Path) -> None:
    names = [f"{id_}.png" for id_ in IDS]
    write_files(tmp_path / "r", names, random_images())
    (tmp_path / "r" / "captions.json").write_text(json.dumps({name: f"it is {name}" for name in names[::-1]}))
    assert read_reconstructions_of(tmp_path / "r", IDS).captions == [f"it is {name}" for name in names]
    (tmp_path / "r" / "captions.json").write_text(json.dumps(dict.fromkeys(names[1:], "")))
    refuses(r"captions\.json has no caption of an image \(got: 3\.png", tmp_path / "r")
    (tmp_path / "r" / "captions.json").write_text(json.dumps([1, 2, 3, 4, 5]))
    refuses(r"captions\.json holds no captions \(got: of type list", tmp_path / "r")
    (tmp_path / "r" / "captions.json").write_text("[")
    refuses(r"captions\.json is no json", tmp_path / "r")


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    refuses(r"do not exist \(got: .*nowhere; expected: a folder or zip archive of PNG", tmp_path / "nowhere")
    refuses(r"holds no reconstruction .*expected: a folder or zip archive of PNG", tmp_path)
    torch.save(random_images(), tmp_path / "m_all_recons.pt")
    refuses(r"holds no reconstruction .*Fix: one of its files: m_all_recons\.pt", tmp_path)
    (tmp_path / "table.csv").write_text("1,2")
    refuses(r"table\.csv is of no known kind", tmp_path / "table.csv")


def test_another_number_of_images(tmp_path: Path) -> None:
    torch.save(torch.zeros(982, 3, 1, 1), tmp_path / "mindeye1.pt")
    refuses(
        r"not as many images as the test set \(got: 982 images; expected: 1000 images\)\. "
        r"Fix: data\.test_split=test, the older split, if these are MindEye1's 982",
        tmp_path / "mindeye1.pt",
        np.arange(1000),
    )
    torch.save(torch.zeros(1000, 3, 1, 1), tmp_path / "mindeye2.pt")
    refuses(r"got: 1000 images; expected: 982 .*data\.test_split=new_test", tmp_path / "mindeye2.pt", np.arange(982))
    write_files(tmp_path / "a", ["a.png", "b.png"], random_images(2))
    refuses(r"got: 2 images; expected: 5 images", tmp_path / "a")
    write_files(tmp_path / "b", ["3.png", "17.png", "105.png"], random_images(3))
    refuses(r"got: 3 images, without stimulus 20, 7000; expected: 5 images", tmp_path / "b")


def test_ids_that_are_wrong(tmp_path: Path) -> None:
    names = [f"{id_}.png" for id_ in IDS]
    write_files(tmp_path / "a", [*names, "4.png", "5.png"], random_images(7))
    says = r"4\.png is of no test image \(got: stimulus 4, and 1 more; expected: the 5 test images, 3, 17, 20"
    refuses(says, tmp_path / "a")
    write_files(tmp_path / "b", [*names, "00017.png"], random_images(6))
    refuses(r"two images of stimulus 17 \(got: 00017\.png and 17\.png; expected: one", tmp_path / "b")
    write_files(tmp_path / "c", [f"{id_ + 1}.png" for id_ in IDS], random_images())
    refuses(r"Fix: lower every id by 1", tmp_path / "c")
    write_files(tmp_path / "d", [*names[1:], "best.png"], random_images())
    refuses(r"best\.png names no stimulus \(got: beside 17\.png; expected: ids in all names, or none", tmp_path / "d")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), r"image 3 of m\.pt: a value is not finite"),
        (float("inf"), r"image 3 of m\.pt: a value is not finite"),
        (-0.9, r"image 3 of m\.pt: values out of range \(got: -0\.9 to .*expected: 0 to 1\)\. Fix: \(x \+ 1\) / 2"),
        (200.0, r"image 3 of m\.pt: values out of range \(got: .* to 200; expected: 0 to 1\)\. Fix: divide by 255"),
    ],
)
def test_values_that_are_no_pixels(tmp_path: Path, value: float, says: str) -> None:
    images = random_images()
    images[3, 1, 2, 2] = value
    torch.save(images, tmp_path / "m.pt")
    refuses_to_read(says, tmp_path / "m.pt")
    assert read_reconstructions_of(tmp_path / "m.pt", IDS).images[:3].shape == (3, 3, SIZE, SIZE)


def test_rounding_is_corrected(tmp_path: Path) -> None:
    torch.save(torch.tensor([-1e-4, 1 + 1e-4]).repeat(5, 3, 2, 1), tmp_path / "m.pt")
    assert read_reconstructions_of(tmp_path / "m.pt", IDS).images[:].unique().tolist() == [0, 1]


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    write_files(folder, [f"{id_}.png" for id_ in IDS], random_images(size=64))
    whole = (folder / "20.png").read_bytes()
    (folder / "20.png").write_bytes(whole[: len(whole) // 2])
    refuses_to_read(r"20\.png is damaged or not an image", folder)
    (folder / "20.png").write_bytes(b"no image at all")
    refuses(r"20\.png is damaged or not an image", folder)
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(folder / "20.png")
    refuses(r"20\.png is not an 8-bit image", folder)
    Image.new("RGB", (64, 32)).save(folder / "20.png")
    refuses(r"20\.png has another size \(got: 64 x 32; expected: 64 x 64 as 3\.png", folder)


def test_damaged_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "m_all_recons.pt"
    torch.save(random_images(size=64), path)
    path.write_bytes(path.read_bytes()[:5000])
    refuses(r"m_all_recons\.pt is damaged", path)
    path.write_bytes(b"hello")
    refuses(r"m_all_recons\.pt is damaged", path)
    for content, says in (
        ({"images": 1}, r"holds no images \(got: a dict of images; expected: a tensor \(N, 3, H, W\)"),
        (torch.zeros(5, 256, 1664), r"holds another tensor \(got: \(5, 256, 1664\)"),
        (torch.zeros(5, 3, 2, 2).long(), r"holds another tensor \(got: torch\.int64"),
    ):
        torch.save(content, path)
        refuses(says, path)
    own = tmp_path / "own"
    write_own(own, [0, 1, 2, 3, 4])
    content = (own / "reconstructions.safetensors").read_bytes()
    (own / "reconstructions.safetensors").write_bytes(content[:-100])
    refuses(r"reconstructions\.safetensors is no whole safetensors file", own)
    save_file({"images": random_images()}, own / "reconstructions.safetensors")
    refuses(r"names no stimuli", own)
    save_file({"stimulus_ids": torch.from_numpy(IDS)}, own / "reconstructions.safetensors")
    refuses(r"has no images", own)


@pytest.mark.parametrize("kind", ["pt", "own", "files"])
def test_a_block_holds_nothing_else(tmp_path: Path, kind: str) -> None:
    ids, size = np.arange(40), 16
    images = torch.rand(40, 3, size, size, generator=torch.Generator().manual_seed(0))
    if kind == "pt":
        torch.save(images, path := tmp_path / "m.pt")
    elif kind == "own":
        save_file({"stimulus_ids": torch.from_numpy(ids), "images": images}, path := tmp_path / "r.safetensors")
    else:
        write_files(path := tmp_path / "r", [f"{id_}.png" for id_ in ids], images)
    found = read_reconstructions_of(path, ids)
    for start in range(0, 40, 4):
        block = found.images[start : start + 4]
        assert len(block) == 4
        assert block.untyped_storage().nbytes() == block.numel() * 4, "no view of everything"
