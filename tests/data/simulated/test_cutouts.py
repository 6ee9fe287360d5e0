"""Folders of cut-outs: what is found, what it is called, and how unfit files are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindeye_pl.data.simulated.cutouts import (
    cutout_files,
    find_cutouts,
    find_photographs,
    noun_phrase,
    read_cutout,
    read_photograph,
    with_article,
    words_of,
)
from mindeye_pl.errors import UserError
from tests.data.simulated.small_cutouts import COLOURS, disc, write_cutouts, write_photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cutouts(tmp_path / "cutouts")


def huge_png(path: Path, side: int) -> None:
    """Write a valid header of a PNG of `side` pixels a side; there are no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0))


def test_a_category_is_a_folder_and_its_group_the_first_one(folder: Path) -> None:
    found = find_cutouts(str(folder))
    assert [each.path for each in found] == sorted(folder / name for name in COLOURS)
    assert [(each.category, each.group) for each in found] == [
        ("animals/birds", "animals"),
        ("animals", "animals"),
        ("food", "food"),
    ]
    assert [each.name for each in found] == ["crow", "dog", "apple"]
    assert [each.description for each in found] == ["a crow", "a big brown dog", "a apple"]  # "an" in a sentence


def test_what_is_left_out(folder: Path) -> None:
    disc((0, 0, 0)).save(folder / "loose.png")  # of no category
    disc((0, 0, 0)).save(folder / "animals/dog_mirror.png")
    disc((0, 0, 0)).convert("RGB").save(folder / "animals/photograph.png")  # without transparency
    (folder / "animals/folder.png").mkdir()
    (folder / "toys/cartoon").mkdir(parents=True)
    disc((0, 0, 0)).save(folder / "toys/cartoon/ball.png")
    disc((0, 0, 0)).save(folder / "toys/BALL.PNG")
    names = [each.path.relative_to(folder).as_posix() for each in find_cutouts(str(folder), ("cartoon",))]
    assert names == [*sorted(COLOURS), "toys/BALL.PNG"]
    assert find_cutouts(str(folder), ("cartoon", "toys"))[-1].category == "food"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("heron_flying-2", "heron flying"),
        ("01 crow", "crow"),
        ("camera_640x480", "camera"),
        ("fireman240a", "fireman"),
        ("747", "747"),
    ],
)
def test_words_of_a_file(name: str, words: str) -> None:
    assert words_of(Path(f"{name}.png")) == words


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("A frog.", "a frog"),
        ("An F-22 Raptor.", "an F-22 Raptor"),
        ("The Earth. Our planet!", "the Earth"),
        ("Two wild boars!!", "two wild boars"),
        ("A ripe, red tomato!", "a ripe, red tomato"),
        ("A calculator.  6x7=42", "a calculator"),
        ("A peacock (a male peafowl).", "a peacock"),
        ("A Seville orange, also called a bitter orange.", "a Seville orange"),
        ("An inukshuk (or inuksuk), a landmark made of stones. It was a milestone.", "an inukshuk"),
        ("A dog, photo by Jane Doe.", "a dog"),
        ("A dog [photographed by Jane Doe]", "a dog"),
        ("A dog. Photo: J. Doe", "a dog"),
        ("A dog © 2020 J. Doe", "a dog"),
        ("A dog ,", "a dog"),
        ("A camera", "a camera"),
        ("Eat your broccoli!", None),
        ("A stethoscope lets your doctor listen to your heart and lungs.", None),
        ("A", None),
        ("Photo by Jane Doe", None),
        ("", None),
        ("...", None),
    ],
)
def test_noun_phrase_of_a_text(text: str, phrase: str | None) -> None:
    assert noun_phrase(text) == phrase


def test_plurals_have_no_article() -> None:
    named = [with_article(word) for word in ("dog", "glass", "octopus", "iris", "holly leaves")]
    assert named == ["a dog", "a glass", "a octopus", "a iris", "holly leaves"]


def test_a_cutout_is_read_without_its_margin_and_at_most_320_pixels(folder: Path) -> None:
    assert read_cutout(folder / "animals/dog.png").size == (40, 30)
    assert read_cutout(folder / "animals/dog.png").mode == "RGBA"
    disc((9, 9, 9), size=(800, 400)).save(folder / "animals/large.png")
    assert read_cutout(folder / "animals/large.png").size == (320, 160)


def test_photographs_of_a_folder(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "backgrounds")
    found = find_photographs(str(root))
    assert [path.name for path in found] == ["old town 12.JPG", "sea_shore.png"]
    assert np.asarray(read_photograph(found[0])).shape == (60, 90, 3)


def test_a_folder_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"simulation\.backgrounds=.* has no photographs"):
        find_photographs(str(tmp_path))


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_an_empty_and_a_missing_folder(name: str, tmp_path: Path) -> None:
    says = r"two categories \(got: no such folder;" if name else r"two categories \(got: none;"
    with pytest.raises(UserError, match=says + r".*apt install tuxpaint-stamps-default"):
        find_cutouts(str(tmp_path / name))


def test_one_category(folder: Path) -> None:
    with pytest.raises(UserError, match="got: one category, birds"):
        find_cutouts(str(folder / "animals"))


def test_an_image_that_is_too_large(folder: Path) -> None:
    for side in (10_000, 60_000):  # Pillow warns of the one and refuses the other
        huge_png(folder / "food/huge.png", side)
        find_cutouts.cache_clear()
        with pytest.raises(UserError, match=r"huge\.png is (too large|damaged).*pixels"):
            find_cutouts(str(folder))


def test_a_file_that_is_no_image(folder: Path) -> None:
    (folder / "food/text.png").write_text("no image")
    with pytest.raises(UserError, match=r"text\.png is damaged or not an image"):
        find_cutouts(str(folder))


def test_a_truncated_image(folder: Path) -> None:
    path = folder / "food/half.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"half\.png is damaged or not an image"):
        read_cutout(path)


def test_an_image_that_shows_nothing(folder: Path) -> None:
    Image.new("RGBA", (8, 8)).save(folder / "food/nothing.png")
    with pytest.raises(UserError, match=r"nothing\.png is transparent everywhere"):
        read_cutout(folder / "food/nothing.png")


def test_a_text_that_is_no_text(folder: Path) -> None:
    (folder / "food/apple_2.txt").write_bytes(b"\xff\xfe\x00An apple")
    with pytest.raises(UserError, match=r"apple_2\.txt cannot be read .*UTF-8"):
        find_cutouts(str(folder))


def test_links_that_lead_nowhere(folder: Path) -> None:
    (folder / "food/loop.png").symlink_to(folder / "food/loop.png")
    with pytest.raises(UserError, match=r"loop\.png is damaged or not an image"):
        find_cutouts(str(folder))


def test_a_link_to_a_folder_above_is_not_followed(folder: Path) -> None:
    (folder / "animals/again").symlink_to(folder)
    (folder / "animals/dog2.txt").symlink_to(folder / "animals/dog.txt")
    assert len(cutout_files(folder)) == len(COLOURS)
