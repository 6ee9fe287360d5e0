"""Reconstructions that somebody else made, or another run, in the order of the test set and read a few at a time.

They come as a folder or zip archive of PNG or JPEG files, as a published `.pt` file (MindEye2, spec section 8;
MindEye1, section 8), as a `.npy` array, or as a folder of the step `reconstruct`. A thousand images of 768 pixels are
7 GB, so nothing but the images asked for is in memory.

Legend: N test images, M images of the source, H and W their size in pixels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.data.natural_order import natural_key
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruct import CAPTIONS, RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.foreign.layouts import final_images, ids_of_table, table_beside
from mindeye_pl.steps.evaluation.foreign.sources import (
    SUFFIXES,
    ArrayFile,
    ImageArchive,
    ImageFiles,
    ImageSource,
    LazyImages,
    OwnReconstructions,
    PublishedTensor,
    described,
    read_published,
)
from mindeye_pl.store.json_files import read_json

#: Ends of the published file names: images from the unCLIP, refined, from the low-level branch; and captions.
_REFINED, _BLURRY = "_all_enhancedrecons", "_all_blurryrecons"
_PUBLISHED_IMAGES = ("_all_recons", _REFINED, _BLURRY)
_PUBLISHED_CAPTIONS = "_all_predcaptions"

#: Number of MindEye1's test images, of the split without the last three sessions.
_MINDEYE1_TEST_IMAGES = 982

_WANTED = (
    "a folder or zip archive of PNG or JPEG files, a published .pt file, a .npy array, or a folder with "
    f"{RECONSTRUCTIONS}"
)


@dataclass(frozen=True, eq=False)
class ForeignReconstructions:
    """One reconstruction of each test image, in the order of the test set.

    Attributes:
        images: `(N, 3, H, W)` in [0, 1], read when they are asked for.
        names: N, of the images in their source.
        stimulus_ids: `(N,)` int64, None where the source has none and the images are matched by order.
        captions: N sentences; None where the source has none.
        blurry: the images of the low-level branch, in a published file beside the others; None where there is none.
    """

    images: LazyImages
    names: list[str]
    stimulus_ids: np.ndarray | None
    captions: list[str] | None
    blurry: LazyImages | None = None


def read_reconstructions_of(path: str | Path, test_ids: np.ndarray) -> ForeignReconstructions:
    """Open reconstructions of the test images; pixels are read later.

    A folder of image files is matched by name where names are stimulus ids, 0-based (`17.png`, `00017.png`,
    `stimulus_17.png`), and by order where they are not: then there are as many files as test images, and numbers in
    names are sorted as numbers. Files numbered 0 to N - 1 or 1 to N, where these are not the test images' own ids,
    are in order too. A published file is taken to have the order of the test set, ascending ids, as MindEye2's have;
    what order MindEye1's shards had is not documented.

    A table `image_ids.csv` beside the images gives their ids where there is one. In the folders of Brain-IT and
    CortexDecoder the final images are read.

    Args:
        path: a folder or zip archive of PNG or JPEG files, a folder perhaps with `captions.json` (a list in the order
            of the files, or an object of sentences by file name); a published `.pt` file, its captions beside it; a
            `.npy` array; or a folder or file of the step `reconstruct`.
        test_ids: `(N,)` stimulus ids of the test set, ascending.

    Raises:
        UserError: if there is no such file, it holds something else, is damaged or a pickle with code; if an image is
            missing, too many, of no test image, or there twice.
    """
    path, test_ids = Path(path).expanduser(), np.asarray(test_ids, np.int64)
    assert (np.diff(test_ids) > 0).all(), "test ids ascend"
    source, ids, captions = _opened(path, test_ids)
    if ids is not None:
        rows = _rows_by_id(path, source, ids, test_ids)
    elif len(source.names) == len(test_ids):
        rows = np.arange(len(test_ids))
    else:
        raise _another_number(path, len(source.names), len(test_ids))
    names = [source.names[row] for row in rows.tolist()]
    ordered = None if captions is None else [captions[row] for row in rows.tolist()]
    found = LazyImages(source, rows)
    return ForeignReconstructions(found, names, None if ids is None else test_ids, ordered, _blurry(path, rows))


def check_reconstructions(path: str | Path) -> None:
    """Check what can be checked of reconstructions before the test images are known, without reading pixels.

    Raises a UserError as `read_reconstructions_of`.
    """
    path = Path(path).expanduser()
    source, _, _ = _opened(path, np.empty(0, np.int64))
    _blurry(path, np.arange(len(source.names)))


def _opened(path: Path, test_ids: np.ndarray) -> tuple[ImageSource, np.ndarray | None, list[str] | None]:
    """Return the images, their stimulus ids and their captions in the order of the source, `(M,)` each."""
    if not path.exists():
        raise UserError("the reconstructions do not exist", got=path, expected=_WANTED)
    source, ids, captions = _source(path, test_ids)
    if captions is not None and len(captions) != len(source.names):
        seen, wanted = f"{len(captions)} captions", f"{len(source.names)}, one for each image"
        raise UserError(f"the captions of {path} are others than those of its images", got=seen, expected=wanted)
    return source, ids, captions


def _source(path: Path, test_ids: np.ndarray) -> tuple[ImageSource, np.ndarray | None, list[str] | None]:
    if path.is_dir() and (path / RECONSTRUCTIONS).is_file():
        path = path / RECONSTRUCTIONS
    if path.is_dir() and (final := final_images(path)) != path:
        return _source(final, test_ids)
    if path.is_dir():
        files = ImageFiles(_image_files(path))
        return files, _ids(path, files.names, test_ids), _captions_of_folder(path, files.names)
    if path.suffix == ".zip":
        archive = ImageArchive(path)
        return archive, _ids(path, archive.names, test_ids), None
    if path.suffix == ".npy":
        return ArrayFile(path), None, None
    if path.suffix == ".safetensors":
        own = OwnReconstructions(path)
        return own, own.stimulus_ids, _captions_of_folder(path.parent, own.names)
    if path.suffix in (".pt", ".pth"):
        return PublishedTensor(path), None, _published_captions(path)
    raise UserError(f"{path} is of no known kind", expected=_WANTED)


def _image_files(folder: Path) -> list[Path]:
    """Return the folder's images, numbers in names sorted as numbers."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not files:
        others = sorted(p.name for p in folder.glob("*.pt") if p.stem.endswith(_PUBLISHED_IMAGES))
        fix = f"one of its files: {', '.join(others[:5])}" if others else None
        raise UserError(f"{folder} holds no reconstruction", expected=_WANTED, fix=fix)
    return sorted(files, key=lambda p: (natural_key(p.stem), p.name))


def _ids(images: Path, names: Sequence[str], test_ids: np.ndarray) -> np.ndarray | None:
    """Return the stimulus id of each image `(M,)`: of a table beside them, else of their names; None without ids."""
    table = table_beside(images)
    return _ids_of_names(names, test_ids) if table is None else ids_of_table(table, names)


def _ids_of_names(names: Sequence[str], test_ids: np.ndarray) -> np.ndarray | None:
    """Return the stimulus id in each name, `(M,)`; None where names have none, or only count the files."""
    found = [re.fullmatch(r"(?:stimulus[ _-]?)?([0-9]{1,9})", Path(name).stem, re.IGNORECASE) for name in names]
    if not any(found):
        return None
    for name, match in zip(names, found, strict=True):
        if match is None:
            with_id = next(other for other, matched in zip(names, found, strict=True) if matched)
            raise UserError(f"{name} names no stimulus", got=f"beside {with_id}", expected="ids in all names, or none")
    ids = np.array([int(match[1]) for match in found if match], np.int64)
    counted = len(ids) == len(test_ids) and _only_count(ids)
    return None if counted and not np.array_equal(ids, test_ids) else ids


def _only_count(ids: np.ndarray) -> bool:
    """Return whether numbers in names are 0 to M - 1 or 1 to M, in order."""
    return bool(ids[0] in (0, 1) and (np.diff(ids) == 1).all())


def _rows_by_id(path: Path, source: ImageSource, ids: np.ndarray, test_ids: np.ndarray) -> np.ndarray:
    """Return the index of each test image's reconstruction in the source, `(N,)`."""
    row_of: dict[int, int] = {}
    for row, id_ in enumerate(ids.tolist()):
        if id_ in row_of:
            twice = f"{source.names[row_of[id_]]} and {source.names[row]}"
            raise UserError(f"{path} has two images of stimulus {id_}", got=twice, expected="one")
        row_of[id_] = row
    if len(beyond := np.flatnonzero(~np.isin(ids, test_ids))):
        if len(ids) != len(test_ids) and _only_count(ids):
            raise _another_number(path, len(ids), len(test_ids))
        from_one = np.array_equal(np.sort(ids) - 1, test_ids)
        raise UserError(
            f"{path}: {source.names[beyond[0]]} is of no test image",
            got=f"stimulus {ids[beyond[0]]}, and {len(beyond) - 1} more",
            expected=f"the {len(test_ids)} test images, {_a_few(test_ids)}",
            fix="lower every id by 1: they count from 0, NSD's own 73K ids from 1" if from_one else None,
        )
    missing = [id_ for id_ in test_ids.tolist() if id_ not in row_of]
    if missing:
        have = len(test_ids) - len(missing)
        raise _another_number(path, have, len(test_ids), f", without stimulus {_a_few(missing)}")
    return np.array([row_of[id_] for id_ in test_ids.tolist()], np.int64)


def _another_number(path: Path, seen: int, wanted: int, more: str = "") -> UserError:
    fix = None
    if seen == _MINDEYE1_TEST_IMAGES:
        fix = f"data.test_split=test, the older split, if these are MindEye1's {seen} images"
    elif seen == nsd.NUM_SHARED_STIMULI:
        fix = f"data.test_split=new_test data.split=standard, if these are MindEye2's {seen} images"
    what = f"{path} has not as many images as the test set"
    return UserError(what, got=f"{seen} images{more}", expected=f"{wanted} images", fix=fix)


def _a_few(ids: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _captions_of_folder(folder: Path, names: Sequence[str]) -> list[str] | None:
    """Return the sentences of `captions.json`: a list in the order of the images, or an object by file name."""
    path = folder / CAPTIONS
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no json", got=error) from error
    if isinstance(content, dict):
        if lacking := [name for name in names if name not in content]:
            raise UserError(f"{path} has no caption of an image", got=lacking[0], expected="one by each file's name")
        content = [content[name] for name in names]
    return _sentences(path, content)


def is_refined(images: Path) -> bool:
    """Return whether a file has the published name of refined images."""
    return images.stem.endswith(_REFINED)


def blurry_beside(images: Path) -> Path:
    """Return the published path of the blurry images of the same model."""
    return _beside(images, _BLURRY)


def companions(images: Path) -> list[Path]:
    """Return the files beside a file of images that are scored with it: tables, captions, blurry images."""
    table = table_beside(images)
    if table is not None and images.suffix == ".zip":
        return [table]
    if not images.stem.endswith(_PUBLISHED_IMAGES):
        return []
    ends = (_PUBLISHED_CAPTIONS, _BLURRY) if is_refined(images) else (_PUBLISHED_CAPTIONS,)
    return [path for path in (_beside(images, end) for end in ends) if path.is_file()]


def _beside(images: Path, end: str) -> Path:
    known = next(known for known in _PUBLISHED_IMAGES if images.stem.endswith(known))
    return images.with_name(images.stem.removesuffix(known) + end + images.suffix)


def _blurry(images: Path, rows: np.ndarray) -> LazyImages | None:
    """Return the blurry images beside published refined ones."""
    if not is_refined(images) or not (path := blurry_beside(images)).is_file():
        return None
    blurry = PublishedTensor(path)
    if len(blurry.names) != len(rows):
        seen = f"{len(blurry.names)} images"
        raise UserError(f"{path} holds others than {images}", got=seen, expected=f"{len(rows)}, one for each image")
    return LazyImages(blurry, rows)


def _published_captions(images: Path) -> list[str] | None:
    """Return the sentences in the file that the published code writes beside the images."""
    if not images.stem.endswith(_PUBLISHED_IMAGES):
        return None
    path = _beside(images, _PUBLISHED_CAPTIONS)
    return _sentences(path, read_published(path)) if path.is_file() else None


def _sentences(path: Path, content: Any) -> list[str]:
    if not isinstance(content, list | tuple) or not all(isinstance(sentence, str) for sentence in content):
        raise UserError(f"{path} holds no captions", got=described(content), expected="a list of sentences")
    return list(content)
