"""Writer of MindEye1's shards from a dataset in MindEye2's layout, independent of the package's converter."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.mindeye1.layout import MindEye1Layout
from tests.data.small_nsd import add_array

SHARDS = {"train": 3, "val": 1, "test": 2}
_NUM_VAL = 4


def write_avg_split(world: DataLayout, subjects: Iterable[int], source_dir: Path) -> MindEye1Layout:
    """Write all images of some subjects with three slots; missing repetitions duplicate an earlier slot."""
    layout = MindEye1Layout(source_dir, SHARDS)
    with h5py.File(world.stimuli) as file:
        images = file["images"][:]
    for subject in subjects:
        with h5py.File(world.betas(subject)) as file:
            betas = file["betas"][:]
        shards = dict.fromkeys(path for _, path in layout.shards_of(subject))
        samples = {"test": _samples(world.shard(subject, "new_test"))}
        every = [_samples(path) for path in sorted(world.shard(subject, "train").parent.iterdir(), key=_number)]
        merged: dict[int, list[int]] = {}
        for session in every:
            for image, trials in session.items():
                merged.setdefault(image, []).extend(trials)
        order = np.random.default_rng(subject).permutation(list(merged)).tolist()
        samples["val"] = {image: merged[image] for image in order[:_NUM_VAL]}
        samples["train"] = {image: merged[image] for image in order[_NUM_VAL:]}
        for split, number in SHARDS.items():
            paths = [path for name, path in layout.shards_of(subject) if name == split]
            for index, path in enumerate(paths):
                part = list(samples[split].items())[index::number]
                write_samples(path, [_members(betas, images, *one) for one in part])
        assert all(path.is_file() for path in shards)
        totals = {split: len(samples[split]) for split in ("train", "val")}
        layout.metadata(subject).write_text(json.dumps({"totals": totals}))
    return layout


def _number(path: Path) -> int:
    return int(path.stem)


def _samples(shard: Path) -> dict[int, list[int]]:
    """Return the trials of each image in temporal order."""
    trials: dict[int, list[int]] = {}
    for row in read_behaviour(shard).astype(int):
        trials.setdefault(int(row[Behaviour.STIMULUS]), []).append(int(row[Behaviour.BETA_ROW]))
    return trials


def _members(betas: np.ndarray, images: np.ndarray, image: int, trials: list[int]) -> dict[str, object]:
    filled = np.array(trials)[np.arange(3) % len(trials)]
    return {
        "png": encoded(images[image]),
        "nsdgeneral.npy": betas[filled],
        "trial.npy": filled,
        "coco73k.npy": np.array(image),
        "num_uniques.npy": np.array([len(trials)]),
        "wholebrain_3d.npy": np.zeros((3, 2)),  # a member that the converter ignores
    }


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    """Encode `(3, H, W)` in [0, 1] as an image file."""
    content = io.BytesIO()
    pixels = np.round(255 * image.astype(np.float32)).astype(np.uint8)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(content, kind)
    return content.getvalue()


def write_samples(path: Path, samples: list[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, members in enumerate(samples):
            for suffix, content in members.items():
                if isinstance(content, np.ndarray):
                    add_array(tar, f"sample{number:09d}.{suffix}", content)
                elif isinstance(content, bytes):
                    member = tarfile.TarInfo(f"sample{number:09d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def read_members(path: Path) -> list[dict[str, object]]:
    """Read the samples of a shard, to modify and rewrite them."""
    samples: dict[str, dict[str, object]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name, _, suffix = member.name.partition(".")
            content = tar.extractfile(member).read()
            array = np.load(io.BytesIO(content)) if suffix.endswith("npy") else content
            samples.setdefault(name, {})[suffix] = array
    return list(samples.values())
