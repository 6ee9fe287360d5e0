"""MindEye1's files of NSD brought into MindEye2's layout once, so that one reader, and one code path, serves both.

Betas come into order of time, images into rows by their 73K id, and the trials of each session into behaviour shards.
Training is MindEye1's train and val together; its test images are the split `test`. No more than one sample is in
memory. A killed conversion goes on with the shard that it was at: room for betas and images is taken first, and what
is written afterwards changes nothing but numbers inside it.

Legend: R slots, three published; V voxels of the subject's nsdgeneral mask.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.mindeye1.index import ConversionSettings, IndexedSubject, Part, index_subject
from mindeye_pl.data.mindeye1.layout import TEST, MindEye1Layout
from mindeye_pl.data.mindeye1.samples import OTHER_RULE, VOXELS, Sample, Shard
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.design import Design
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.shard_writer import write_shard
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import flush, replacing, write_json

#: Which shards are done, in the folder that is being filled.
_PROGRESS = "progress.json"

#: Mean difference of two images' values in [0, 1] up to which they are one image, saved twice.
_SAME_IMAGE = 0.02


def convert_mindeye1(
    source: MindEye1Layout, subjects: Sequence[int], root: Path, settings: ConversionSettings, *, progress: bool = True
) -> dict[str, Any]:
    """Writes what some subjects saw and answered in MindEye2's layout, going on where a killed conversion stopped.

    Args:
        source: MindEye1's files.
        subjects: out of 1, 2, 5, 7.
        root: an empty folder, or one that a killed conversion of the same files left.
        settings: what the files do not say.
        progress: whether to show a bar.

    Returns:
        What was found, plain data: for each subject its images, trials, sessions and slots filled again.

    Raises:
        UserError: if a shard is missing, cut off or holds something else, an image or a trial is named twice with
            different contents, or there is too little room on the disk.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    source.check(subjects)
    layout = NSDLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    found = [index_subject(source, subject, settings) for subject in subjects]
    designs = [one.design(settings.trials_per_session) for one in found]
    _make_room(layout, found, designs, _size_of_images(source, found[0]))
    done = _Done(root / _PROGRESS)
    columns = (TextColumn("converting MindEye1's NSD"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task("", total=sum(len(one.samples) for one in found))
        written: set[int] = set()  # images
        for one, part in [(subject, part) for subject in found for part in subject.parts]:
            if part.path.name not in done:
                _copy(layout, source, one, part, written)
                done.add(part.path.name)
            written.update(sample.stimulus_id for sample in part.samples)
            bar.advance(task, len(part.samples))
    for one, design in zip(found, designs, strict=True):
        _write_shards(layout, one.subject, design)
    for path in source.companions():
        with replacing(root / path.name) as temporary:
            shutil.copyfile(path, temporary)
    done.path.unlink()
    return {f"subj0{one.subject}": _facts(one, design) for one, design in zip(found, designs, strict=True)}


class _Done:
    """Names of the shards that were copied whole, kept in a file."""

    def __init__(self, path: Path):
        self.path = path
        self._names: list[str] = json.loads(path.read_text()) if path.exists() else []
        self._write()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names.append(name)
        self._write()

    def _write(self) -> None:
        write_json(self.path, self._names)


def _size_of_images(source: MindEye1Layout, one: IndexedSubject) -> tuple[int, ...]:
    """(3, H, W) of the first image, which all others have too."""
    part = next(part for part in one.parts if part.samples)
    with Shard(part.path, source.fetch(part.path)) as shard:
        return shard.image(next(shard.grouped())[1]).shape


def _make_room(
    layout: NSDLayout, found: Sequence[IndexedSubject], designs: Sequence[Design], image: tuple[int, ...]
) -> None:
    """Takes room for all betas and images, on disk only for what will be written.

    Images are rows by 73K id, of which a subject saw an eighth; the others are holes in the file.
    """
    stimulus_ids = {sample.stimulus_id for one in found for sample in one.samples}
    pairs = list(zip(found, designs, strict=True))
    needed = 4 * sum(one.num_trials * one.num_voxels for one in found) + 2 * len(stimulus_ids) * int(np.prod(image))
    missing = needed - sum(_room_of(path) for path in (layout.stimuli, *(layout.betas(one.subject) for one in found)))
    free = shutil.disk_usage(layout.root).free
    if free < missing:
        raise UserError(
            f"{layout.root} has too little room for the converted files",
            got=f"{free / 1e9:.1f} GB",
            expected=f"{missing / 1e9:.1f} GB",
            fix="paths.artifacts=FOLDER on another disk, or fewer data.subjects",
        )
    _allocate(layout.stimuli, "images", (max(stimulus_ids) + 1, *image), np.float16)
    for one, design in pairs:
        _allocate(layout.betas(one.subject), "betas", (len(design.behaviour), one.num_voxels), np.float32)


def _room_of(path: Path) -> int:
    """Bytes that the disk gave to a file, 0 if there is none."""
    return path.stat().st_blocks * 512 if path.exists() else 0


def _allocate(path: Path, name: str, shape: tuple[int, ...], dtype: type) -> None:
    """An hdf5 file whose one dataset has its place already, so that a kill in the middle of a write cannot harm it."""
    if path.exists():
        return
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same content has the same checksum
    version = ("earliest", "v108")  # later formats keep a mark of being written
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=version) as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, layout)


def _copy(layout: NSDLayout, source: MindEye1Layout, one: IndexedSubject, part: Part, written: set[int]) -> None:
    """Copies the responses and images of one shard to their rows, and has them flushed to the disk.

    Args:
        layout: the files with room for them.
        source: MindEye1's files.
        one: whose shard it is.
        part: the shard.
        written: images that earlier shards have brought; these have to be the same here.
    """
    with ExitStack() as stack:
        betas = stack.enter_context(h5py.File(layout.betas(one.subject), "r+"))["betas"]
        images = stack.enter_context(h5py.File(layout.stimuli, "r+"))["images"]
        shard = stack.enter_context(Shard(part.path, source.fetch(part.path)))
        for sample, (_, members) in zip(part.samples, shard.grouped(), strict=True):
            voxels = shard.voxels(members[VOXELS], one.num_voxels)  # (R, V)
            for slot, first in sample.copies:
                if not np.array_equal(voxels[slot], voxels[first]):
                    what = f"slots {first} and {slot} have one trial's number and different responses"
                    raise shard.refusal(members[VOXELS].name, what, fix=OTHER_RULE)
            for slot, trial in zip(sample.slots, sample.trials, strict=True):
                betas[trial] = voxels[slot]
            _put_image(images, shard, sample, shard.image(members), known=sample.stimulus_id in written)
    for path in (layout.betas(one.subject), layout.stimuli):
        flush(path)


def _put_image(images: h5py.Dataset, shard: Shard, sample: Sample, pixels: np.ndarray, *, known: bool) -> None:
    """Writes an image, or compares it with the same one of another subject."""
    if pixels.shape != images.shape[1:]:
        raise shard.refusal(sample.name, "its image has another size", seen=pixels.shape[1:], wanted=images.shape[2:])
    image = (pixels / np.float32(255)).astype(np.float16)
    if not known:
        images[sample.stimulus_id] = image
        return
    difference = np.abs(images[sample.stimulus_id].astype(np.float32) - image).mean()
    if difference > _SAME_IMAGE:
        raise shard.refusal(
            sample.name,
            f"image {sample.stimulus_id} is another one here than in an earlier shard",
            seen=f"mean difference {difference:.2g}",
            wanted=f"at most {_SAME_IMAGE}",
        )


def _write_shards(layout: NSDLayout, subject: int, design: Design) -> None:
    """The trials of each session, and those of the test images."""
    known = design.behaviour[:, Behaviour.BETA_ROW] >= 0
    training, first = np.flatnonzero(known & ~design.is_shared), 0
    for session, trials in enumerate(_by_session(training, design)):
        write_shard(layout.shard(subject, "train", session), design, trials, first_number=first)
        first += len(trials)
    write_shard(layout.shard(subject, TEST), design, np.flatnonzero(known & design.is_shared))


def _by_session(trials: np.ndarray, design: Design) -> Iterator[np.ndarray]:
    starts = np.arange(1, design.num_sessions) * design.trials_per_session
    yield from np.split(trials, np.searchsorted(trials, starts))


def _facts(one: IndexedSubject, design: Design) -> dict[str, int]:
    return {
        "images": len(one.samples),
        "trials": one.num_trials,
        "sessions": design.num_sessions,
        "voxels": one.num_voxels,
        "slots_filled_again": nsd.REPETITIONS * len(one.samples) - one.num_trials,
    }
