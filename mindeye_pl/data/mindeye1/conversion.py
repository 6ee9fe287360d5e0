"""Conversion of MindEye1's NSD files to MindEye2's layout, so that both are read by the same reader.

Betas are sorted by time, images are stored in rows by their 73K id, and the trials of each session are written as
behaviour shards. MindEye1's train and val together are the training set; its test images are the split `test`. Only one
sample is in memory at a time. A killed conversion resumes with the interrupted shard: betas and images are allocated
first, and later writes only change numbers inside the allocated files.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.layout.allocation import allocate, check_space
from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.writer import write_shard, write_training_shards
from mindeye_pl.data.mindeye1.index import (
    OTHER_RULE,
    VOXELS,
    ConversionSettings,
    IndexedShard,
    IndexedSubject,
    Sample,
    Shard,
    index_subject,
)
from mindeye_pl.data.mindeye1.layout import TEST, MindEye1Layout
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.store.atomic import flush, replacing, write_json
from mindeye_pl.store.own_files import read_json, read_or_make

#: Names of the shards that were copied completely, in the folder that is being written.
_PROGRESS = "progress.json"

#: Maximum mean difference, on the scale [0, 1], between two encodings of the same image.
_MAX_IMAGE_DIFFERENCE = 0.02


def convert_mindeye1(
    source: MindEye1Layout, subjects: Sequence[int], root: Path, settings: ConversionSettings, *, progress: bool = True
) -> dict[str, Any]:
    """Convert some subjects to MindEye2's layout in an empty folder, or resume a killed conversion there.

    Returns the numbers of images, trials, sessions, voxels and duplicated slots of each subject, plain data. Raises a
    UserError if a shard is missing, truncated or invalid, an image or a trial occurs twice with different contents, or
    the disk has too little space.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    source.check(subjects)
    layout = DataLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    indexed = [index_subject(source, subject, settings) for subject in subjects]
    designs = [subject.design(settings.trials_per_session) for subject in indexed]
    _allocate_files(layout, indexed, designs, _image_shape(source, indexed[0]))
    finished: list[str] = read_or_make(
        root / _PROGRESS, partial(read_json, kind=list[str]), lambda: write_json(root / _PROGRESS, [])
    )
    columns = (TextColumn("converting MindEye1's NSD"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task("", total=sum(len(subject.samples) for subject in indexed))
        written: set[int] = set()  # images
        for subject, shard in [(owner, shard) for owner in indexed for shard in owner.shards]:
            if shard.path.name not in finished:
                _copy(layout, source, subject, shard, written)
                finished.append(shard.path.name)
                write_json(root / _PROGRESS, finished)
            written.update(sample.stimulus_id for sample in shard.samples)
            bar.advance(task, len(shard.samples))
    summary = {}
    for subject, design in zip(indexed, designs, strict=True):
        write_training_shards(layout, subject.subject, design)
        write_shard(layout.shard(subject.subject, TEST), design, design.test_trials)
        summary[f"subj0{subject.subject}"] = {
            "images": len(subject.samples),
            "trials": subject.num_trials,
            "sessions": design.num_sessions,
            "voxels": subject.num_voxels,
            "slots_filled_again": nsd.REPETITIONS * len(subject.samples) - subject.num_trials,
        }
    for path in source.companion_files():
        copied = root / path.relative_to(source.source_dir)
        copied.parent.mkdir(exist_ok=True)
        with replacing(copied) as temporary:
            shutil.copyfile(path, temporary)
    (root / _PROGRESS).unlink()
    return summary


def _image_shape(source: MindEye1Layout, subject: IndexedSubject) -> tuple[int, ...]:
    """Return (3, H, W) of the first image; all images have the same shape."""
    first = next(shard for shard in subject.shards if shard.samples)
    with Shard(first.path, source.fetch_command(first.path)) as shard:
        return shard.image(next(shard.grouped())[1]).shape


def _allocate_files(
    layout: DataLayout, indexed: Sequence[IndexedSubject], designs: Sequence[Design], image_shape: tuple[int, ...]
) -> None:
    """Allocate betas and images; rows of the images file that no subject saw are holes and use no disk space."""
    stimulus_ids = {sample.stimulus_id for subject in indexed for sample in subject.samples}
    num_betas = sum(subject.num_trials * subject.num_voxels for subject in indexed)
    paths = (layout.stimuli, *(layout.betas(subject.subject) for subject in indexed))
    needed = 4 * num_betas + 2 * len(stimulus_ids) * int(np.prod(image_shape))
    check_space(layout.root, needed, paths)
    allocate(layout.stimuli, "images", (max(stimulus_ids) + 1, *image_shape), np.float16)
    for subject, design in zip(indexed, designs, strict=True):
        allocate(layout.betas(subject.subject), "betas", (len(design.behaviour), subject.num_voxels), np.float32)


def _copy(
    layout: DataLayout, source: MindEye1Layout, subject: IndexedSubject, indexed: IndexedShard, written: set[int]
) -> None:
    """Copy the responses and images of one shard to their rows, and flush them to disk.

    `written` are the ids of the images of earlier shards, which must be equal here.
    """
    with ExitStack() as stack:
        betas = stack.enter_context(open_hdf5(layout.betas(subject.subject), "r+"))["betas"]
        images = stack.enter_context(open_hdf5(layout.stimuli, "r+"))["images"]
        shard = stack.enter_context(Shard(indexed.path, source.fetch_command(indexed.path)))
        for sample, (_, members) in zip(indexed.samples, shard.grouped(), strict=True):
            voxels = shard.voxels(members[VOXELS], subject.num_voxels)  # (R, V)
            for slot, first in sample.copies:
                if not np.array_equal(voxels[slot], voxels[first]):
                    what = f"slots {first} and {slot} have the same trial but different responses"
                    raise shard.member_error(members[VOXELS].name, what, fix=OTHER_RULE)
            for slot, trial in zip(sample.slots, sample.trials, strict=True):
                betas[trial] = voxels[slot]
            _write_image(images, shard, sample, shard.image(members), known=sample.stimulus_id in written)
    for path in (layout.betas(subject.subject), layout.stimuli):
        flush(path)


def _write_image(images: h5py.Dataset, shard: Shard, sample: Sample, pixels: np.ndarray, *, known: bool) -> None:
    """Write an image, or compare it with the same image of another subject."""
    if pixels.shape != images.shape[1:]:
        got, expected = pixels.shape[1:], images.shape[2:]
        raise shard.member_error(sample.name, "the image has another size", got=got, expected=expected)
    image = (pixels / np.float32(255)).astype(np.float16)
    if not known:
        images[sample.stimulus_id] = image
        return
    difference = np.abs(images[sample.stimulus_id].astype(np.float32) - image).mean()
    if difference > _MAX_IMAGE_DIFFERENCE:
        what = f"image {sample.stimulus_id} differs from the one in an earlier shard"
        limit = f"at most {_MAX_IMAGE_DIFFERENCE}"
        raise shard.member_error(sample.name, what, got=f"mean difference {difference:.2g}", expected=limit)
