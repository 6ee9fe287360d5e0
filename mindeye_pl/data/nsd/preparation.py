"""Preparation of NSD's own release in the working layout.

Sessions and blocks of images are independent tasks of several processes. Each holds the selected voxels of one session;
this process writes them into allocated files and then notes them as finished, so that a killed preparation goes on with
the next ones.

Legend: T trials of a subject, t trials of a session, V selected voxels.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.console import console, progress_bar
from mindeye_pl.data.layout.allocation import allocate, check_space
from mindeye_pl.data.layout.brain_mask import BrainMask, write_brain_mask
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout, subject_name
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.inspection import InspectedSubject, PreparationSettings, inspect_release
from mindeye_pl.data.nsd.masks import region_masks
from mindeye_pl.data.nsd.release import NsdRelease
from mindeye_pl.data.nsd.shards import write_shards
from mindeye_pl.data.nsd.stimuli import read_coco_captions
from mindeye_pl.data.nsd.tasks import normalised_session, resized_stimuli, session_moments, varying_voxels
from mindeye_pl.data.nsd.volumes import read_volume
from mindeye_pl.data.nsd.zscore import Moments
from mindeye_pl.data.parallel import run_tasks
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import flush, write_json
from mindeye_pl.store.own_files import read_json, read_or_make

#: Finished tasks by file, in the folder that is being written: first row, and voxels that were constant.
_PROGRESS = "progress.json"

_IMAGES_PER_TASK = 128


def prepare_nsd(
    release: NsdRelease,
    subjects: Sequence[int],
    root: Path,
    settings: PreparationSettings,
    *,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare some subjects and all images in an empty folder, or resume a killed preparation there.

    Workers are processes; 0 or 1 uses this process. Returns the numbers of sessions, trials and voxels of each subject,
    plain data. Raises a UserError if a file is missing, damaged or unfit, or the disk has too little space.
    """
    inspected, num_stimuli = inspect_release(release, subjects, settings)
    layout = DataLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    masks = {one.subject: _write_mask(layout, one, workers) for one in inspected}
    _allocate_files(layout, inspected, masks, num_stimuli)
    read = partial(read_json, kind=dict[str, dict[str, int]])
    finished: dict[str, dict[str, int]] = read_or_make(root / _PROGRESS, read, lambda: write_json(root / _PROGRESS, {}))
    tasks = _session_tasks(layout, inspected, masks, settings, workers)
    for start in range(0, num_stimuli, _IMAGES_PER_TASK):
        stop = min(start + _IMAGES_PER_TASK, num_stimuli)
        tasks.append((layout.stimuli, start, partial(resized_stimuli, release.stimuli, start, stop)))
    tasks = [task for task in tasks if str(task[1]) not in finished.get(task[0].name, {})]
    with progress_bar(shown=progress) as bar:
        results = run_tasks([task for _, _, task in tasks], workers)
        for index, (rows, constant) in bar.track(results, total=len(tasks), description="preparing NSD"):
            path, start, _ = tasks[index]
            _write_rows(path, start, rows)
            finished.setdefault(path.name, {})[str(start)] = constant
            write_json(root / _PROGRESS, finished)
    for one in inspected:
        write_shards(layout, one.subject, one.design)
    _write_voxel_files(layout, inspected, masks)
    if release.caption_files():
        write_json(layout.captions, read_coco_captions(release, num_stimuli))
    summary = {}
    for one in inspected:
        constant = sum(finished[layout.betas(one.subject).name].values())
        summary[subject_name(one.subject)] = _facts(one, int(masks[one.subject].sum()), constant)
    (root / _PROGRESS).unlink()
    return summary | {"images": num_stimuli, "captions": layout.captions.exists()}


def _write_mask(layout: DataLayout, subject: InspectedSubject, workers: int) -> np.ndarray:
    """Return the selected voxels, `(X, Y, Z)` bool, and write them; `all_finite` reads every session once for it."""
    path, mask = layout.brain_mask(subject.subject), subject.mask
    if mask is None and path.exists():
        mask = read_volume(path).values > 0
    if mask is None:
        mask = subject.general.values >= -np.inf
        for _, varying in run_tasks([partial(varying_voxels, path) for path in subject.sessions], workers):
            mask = mask & varying
        if not mask.any():
            raise UserError(
                f"no voxel of subject {subject.subject} varies in every session", got="data.mask=all_finite"
            )
    write_brain_mask(path, BrainMask.at(np.flatnonzero(mask), mask.shape, subject.general.affine))
    return mask


def _allocate_files(
    layout: DataLayout, inspected: Sequence[InspectedSubject], masks: Mapping[int, np.ndarray], num_stimuli: int
) -> None:
    image = (3, nsd.IMAGE_SIZE, nsd.IMAGE_SIZE)
    shapes = {
        layout.betas(one.subject): (len(one.design.behaviour), int(masks[one.subject].sum())) for one in inspected
    }
    num_bytes = sum(4 * trials * voxels for trials, voxels in shapes.values()) + 2 * num_stimuli * int(np.prod(image))
    check_space(layout.root, num_bytes, (layout.stimuli, *shapes))
    allocate(layout.stimuli, "images", (num_stimuli, *image), np.float16)
    for path, shape in shapes.items():
        allocate(path, "betas", shape, np.float32)


def _session_tasks(
    layout: DataLayout,
    inspected: Sequence[InspectedSubject],
    masks: Mapping[int, np.ndarray],
    settings: PreparationSettings,
    workers: int,
) -> list[tuple[Path, int, Callable[[], tuple[np.ndarray, int]]]]:
    """Return a task for each session, with the file and the first row of its result."""
    tasks: list[tuple[Path, int, Callable[[], tuple[np.ndarray, int]]]] = []
    for one in inspected:
        mask, design = masks[one.subject], one.design
        trained = ~design.is_shared
        common: Moments | None = None
        if settings.zscore == "train_sessions_only":
            sessions = [session - 1 for session in sorted(set(settings.zscore_sessions))]
            fits = [partial(session_moments, one.sessions[i], mask, trained[design.session_rows(i)]) for i in sessions]
            common = reduce(add, (moments for _, moments in run_tasks(fits, workers)))
        for index, path in enumerate(one.sessions):
            rows = design.session_rows(index)
            fitted = trained[rows] if settings.zscore == "exclude_shared1000" else np.ones_like(trained[rows])
            moments = fitted if common is None else common
            task = partial(normalised_session, path, mask, None if settings.zscore == "none" else moments)
            tasks.append((layout.betas(one.subject), rows.start, task))
    return tasks


def _write_rows(path: Path, start: int, rows: np.ndarray) -> None:
    with open_hdf5(path, "r+") as file:
        (name,) = file
        file[name][start : start + len(rows)] = rows
    flush(path)


def _write_voxel_files(
    layout: DataLayout, inspected: Sequence[InspectedSubject], masks: Mapping[int, np.ndarray]
) -> None:
    """Write the regions and the noise ceilings of the selected voxels."""
    with open_hdf5(layout.region_masks, "w") as regions, open_hdf5(layout.ncsnr, "w") as ncsnr:
        for one in inspected:
            name, mask = subject_name(one.subject), masks[one.subject]
            for region, voxels in region_masks(mask, one.general.values, one.areas).items():
                regions[f"{name}/{region}"] = voxels
            ncsnr[name] = one.ncsnr[mask].astype(np.float32)


def _facts(one: InspectedSubject, voxels: int, constant: int) -> dict[str, int]:
    """Return the numbers of a subject, and warn of voxels without data."""
    if constant:
        console.print(
            f"{subject_name(one.subject)}: {constant:,} times, a voxel has one value in all trials of a session: it lay"
            " outside of the imaged volume. It is 0 there."
        )
    trials = len(one.design.behaviour)
    return {"sessions": one.design.num_sessions, "trials": trials, "voxels": voxels, "constant_in_a_session": constant}
