"""NSD in the working layout, extended by further test splits.

Betas of a further session follow those of NSD in the subject's file, and its images those of NSD in the images file. So
rows of NSD keep their numbers, training shards are copied, and a model that was trained on NSD is scored as it is.

Legend: N images and T trials of a subject in NSD's files, S side of the images.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.layout.hdf5 import open_dataset, open_hdf5, read_rows
from mindeye_pl.data.layout.paths import DataLayout, check_files, subject_name
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.layout.stimuli import Stimuli, read_captions
from mindeye_pl.data.layout.trials import count_sessions
from mindeye_pl.data.layout.writer import write_betas, write_shard
from mindeye_pl.data.nsd_tests.further_test import FurtherTest, FurtherTrials
from mindeye_pl.data.nsd_tests.imagery import Imagery
from mindeye_pl.data.released.pixels import square
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_json

#: Trials or images that are copied at once.
_ROWS_PER_BLOCK = 512


@dataclass(frozen=True, eq=False)
class _Session:
    trials: FurtherTrials
    rows: np.ndarray  # (T,) row of each response's image, -1 for none


def extend(
    source: DataLayout, subjects: Sequence[int], tests: Sequence[FurtherTest], root: Path
) -> dict[str, dict[str, int]]:
    """Write NSD's files of some subjects with further test splits below `root`, and return numbers of each subject.

    Images of other subjects alone are holes in the images file. Raises a UserError for missing or damaged files, and
    where voxels are not those of NSD's file.
    """
    check_files(source, subjects)
    if source.simulation.is_file():
        raise UserError(
            "simulated brains saw no further sessions", got=source.root, fix="paths.nsd=FOLDER of measured NSD"
        )
    layout = DataLayout(root)
    root.mkdir(parents=True, exist_ok=True)
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for subject in subjects:
        for test in tests:
            readers |= {name: read for name, read in test.images(subject).items() if name not in readers}
    first_row = len(Stimuli(source.stimuli))
    row_of = {name: first_row + index for index, name in enumerate(readers)}
    facts = {}
    seen: set[int] = set()
    for subject in subjects:
        sessions = []
        for test in tests:
            trials = test.trials(subject)
            rows = np.array([-1 if name is None else row_of[name] for name in trials.images], np.int64)
            sessions.append(_Session(trials, rows))
        facts[subject_name(subject)] = _extend_subject(source, layout, subject, tests, sessions)
        seen |= _images_of(source, subject)
    _copy_images(source, layout, sorted(seen), list(readers.values()))
    for path in (source.region_masks, source.ncsnr):
        if path.is_file():
            shutil.copyfile(path, root / path.name)
    if source.captions.is_file():
        write_json(layout.captions, read_captions(source.captions, first_row) + [[] for _ in readers])
    return facts


def _shards(layout: DataLayout, subject: int) -> list[Path]:
    return sorted(layout.shard(subject, "train").parents[1].rglob("*.tar"))


def _images_of(source: DataLayout, subject: int) -> set[int]:
    shown = [read_behaviour(shard)[:, Behaviour.STIMULUS] for shard in _shards(source, subject)]
    return set(np.concatenate(shown).astype(int).tolist())


def _extend_subject(
    source: DataLayout, layout: DataLayout, subject: int, tests: Sequence[FurtherTest], sessions: Sequence[_Session]
) -> dict[str, int]:
    num_trials, num_voxels = betas_shape(source, subject)
    for shard in _shards(source, subject):
        target = layout.root / shard.relative_to(source.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shard, target)

    def parts() -> Iterator[np.ndarray]:
        with open_dataset(source.betas(subject), "betas") as dataset:
            for start in range(0, num_trials, _ROWS_PER_BLOCK):
                yield dataset[start : start + _ROWS_PER_BLOCK]
        for test, session in zip(tests, sessions, strict=True):
            yield _checked_betas(test, subject, session, num_voxels)

    lengths = [len(session.rows) for session in sessions]
    write_betas(layout, subject, (num_trials + sum(lengths), num_voxels), parts())
    first, last_session = num_trials, count_sessions(source, subject)
    rows = np.concatenate([np.full(num_trials, -1), *(session.rows for session in sessions)])
    numbers = np.repeat(last_session + np.arange(len(sessions) + 1), [num_trials, *lengths])
    facts = {"trials of NSD": num_trials}
    for session in sessions:
        for split, mask in session.trials.splits.items():
            tested = first + np.flatnonzero(mask)
            is_tested = np.ones(len(tested), bool)
            design = Design.from_trials(subject, tested, rows[tested], is_tested, np.maximum(numbers, 1))
            write_shard(layout.shard(subject, split), design, tested)
            facts[split] = len(tested)
        first += len(session.rows)
    return facts


def _checked_betas(test: FurtherTest, subject: int, session: _Session, num_voxels: int) -> np.ndarray:
    betas, path = test.betas(subject), test.betas_file(subject)
    if betas.shape != (len(session.rows), num_voxels):
        expected = f"({len(session.rows)}, {num_voxels}): the design's trials, the voxels of NSD's betas"
        raise UserError(f"{path} does not fit NSD's files of subject {subject}", got=betas.shape, expected=expected)
    if isinstance(test, Imagery):
        found = test.agreement(subject, betas)
        best = max(found, key=lambda order: found[order])
        words = ", ".join(f"{order} {value:.3f}" for order, value in found.items())
        console.print(f"{subject_name(subject)}: correlation of responses to one seen image: {words}")
        if best != test.order_in_runs:
            console.print(f"  data.order_in_runs={best} fits these responses better than {test.order_in_runs}")
    return betas


def _copy_images(
    source: DataLayout, layout: DataLayout, rows: list[int], further: list[Callable[[], np.ndarray]]
) -> None:
    count, _, side, width = Stimuli(source.stimuli).shape
    if side != width:
        raise UserError(f"{source.stimuli} has no square images", got=(side, width), expected="equal sides")
    with open_hdf5(layout.stimuli, "w") as file, open_dataset(source.stimuli, "images") as dataset:
        # In chunks of one image, an image that nobody saw takes no space.
        shape = (count + len(further), 3, side, side)
        images: h5py.Dataset = file.create_dataset("images", shape, np.float16, chunks=(1, *shape[1:]))
        for start in range(0, len(rows), _ROWS_PER_BLOCK):
            block = np.array(rows[start : start + _ROWS_PER_BLOCK])
            pixels = read_rows(dataset, block)
            scaled = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels
            for row, image in zip(block.tolist(), scaled, strict=True):
                images[row] = image
        for index, read in enumerate(further):
            images[count + index] = square(read(), side) / np.float32(255)
