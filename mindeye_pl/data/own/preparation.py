"""Preparation of a study: betas, trials, images, noise ceilings and masks in the working layout, and a record of it.

Legend: N images, T trials of a subject, t of one session, V voxels, K kept ones.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.layout.brain_mask import BrainMask, write_brain_mask
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout, subject_name
from mindeye_pl.data.layout.writer import write_betas, write_trials
from mindeye_pl.data.own.images import Squaring, StudyImages, write_squares
from mindeye_pl.data.own.split import Rule, choose_test_images
from mindeye_pl.data.own.study import Study, Subject
from mindeye_pl.data.own.voxels import VoxelCheck
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.noise_ceiling import estimate_ncsnr
from mindeye_pl.store.atomic import write_json

#: Normalisation of the betas of each session: by its training trials, or none.
SessionZScore = Literal["session", "none"]

#: File of the record beside the layout's: what was kept, dropped and chosen.
CARD = "card.json"

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PreparationSettings:
    """Choices of a preparation; `image_size` is a side in pixels, `test_fraction` that of `choose_test_images`."""

    split: Rule
    test_fraction: float
    zscore: SessionZScore
    image_size: int
    squaring: Squaring


def prepare_own(study: Study, settings: PreparationSettings, root: Path) -> dict[str, Any]:
    """Write a study into the layout below a folder; return the record, which is also written as `CARD`.

    Subjects get the numbers 1, 2, ... in the order of their labels. Raises a UserError for betas or images that cannot
    be used.
    """
    layout, images = DataLayout(root), StudyImages.of(study.images)
    ids = [np.array([images.ids[name] for name in subject.images]) for subject in study.subjects]  # (T,) each
    presentations = np.stack([np.bincount(shown, minlength=len(images)) for shown in ids])  # (S, N)
    chosen = choose_test_images(settings.split, settings.test_fraction, presentations, images.chances(), images.files)
    subjects = {}
    for number, (subject, shown) in enumerate(zip(study.subjects, ids, strict=True), start=1):
        facts = _prepare_subject(layout, number, subject, shown, chosen.is_test, settings.zscore)
        subjects[subject_name(number)] = facts
        voxels = facts["voxels"]
        console.print(
            f"{subject.name}: {len(shown):,} trials in {len(subject.sessions)} sessions, {voxels['kept']:,} voxels "
            f"({voxels['not_finite']:,} not finite and {voxels['constant']:,} constant ones dropped)"
        )
    write_squares(layout, images.files, settings.image_size, settings.squaring)
    names = [path.name for path in images.files]
    record = {
        "subjects": subjects,
        "images": len(images),
        "test_images": int(chosen.is_test.sum()),
        "split": chosen.reason,
        "other_names_of_an_image": len(images.ids) - len(images),
        "settings": asdict(settings),
    }
    console.print(f"{len(images):,} images; tested: {chosen.reason}")
    write_json(root / CARD, record | {"image_names": names})
    return record


def _prepare_subject(
    layout: DataLayout, number: int, subject: Subject, ids: np.ndarray, is_test_image: np.ndarray, zscore: SessionZScore
) -> dict[str, Any]:
    """Write trials, betas, noise ceiling and mask of one subject, and return its facts."""
    is_test, sessions = is_test_image[ids], subject.session_numbers  # (T,) each
    for tested, words in ((is_test, "test"), (~is_test, "training")):
        if not tested.any():
            what = f"{subject.name} saw no {words} image"
            raise UserError(what, got=f"{len(np.unique(ids))} images", fix="own.split=held_out, or another subject")
    check = VoxelCheck(len(subject.voxels))
    for session in subject.sessions:
        check.add(session.file.read(session.rows, subject.voxels))
    kept, counts = check.kept(subject.name)
    write_trials(layout, number, stimulus_ids=ids, is_test=is_test, sessions=sessions)
    write_betas(layout, number, (len(ids), counts.kept), _sessions(subject, subject.voxels[kept], is_test, zscore))
    repeated = (np.unique(ids, return_counts=True)[1] > 1).sum()
    if repeated:
        _write_ncsnr(layout, number, ids)
    if subject.positions is not None and subject.affine is not None:
        mask = BrainMask.at(subject.positions[kept], subject.volume or (), subject.affine)
        write_brain_mask(layout.brain_mask(number), mask)
    return {
        "label": subject.label,
        "sessions": {session.label: len(session.images) for session in subject.sessions},
        "voxels": asdict(counts) | {"kept": counts.kept},
        "images": len(np.unique(ids)),
        "test_images": len(np.unique(ids[is_test])),
        "test_trials": int(is_test.sum()),
        "repeated_images": int(repeated),
        "presentations": np.bincount(np.unique(ids, return_counts=True)[1]).tolist(),
    }


def _sessions(subject: Subject, voxels: np.ndarray, is_test: np.ndarray, zscore: SessionZScore) -> Iterator[np.ndarray]:
    """Yield the betas `(t, K)` float32 of each session, z-scored by its training trials."""
    first = 0
    for session in subject.sessions:
        betas = session.file.read(session.rows, voxels)
        training = betas[~is_test[first : first + len(betas)]]
        first += len(betas)
        if zscore == "session":
            if len(training) < 2:
                what = f"{subject.name} ses-{session.label} has too few training trials to z-score"
                fix = "own.zscore=none, with betas that are comparable between sessions"
                raise UserError(what, got=len(training), expected="at least 2", fix=fix)
            mean, std = training.mean(0, dtype=np.float64), training.std(0, dtype=np.float64)
            betas = ((betas - mean) / np.where(std > 0, std, 1)).astype(np.float32)
        yield betas


def _write_ncsnr(layout: DataLayout, number: int, ids: np.ndarray) -> None:
    """Estimate the ncsnr of the written betas, some voxels at a time."""
    mode: Literal["r+", "w"] = "r+" if layout.ncsnr.exists() else "w"
    with open_hdf5(layout.betas(number)) as file, open_hdf5(layout.ncsnr, mode) as target:
        betas = file["betas"]
        step = max(1, _BLOCK_BYTES // (8 * len(ids)))
        starts = range(0, betas.shape[1], step)
        ratios = [estimate_ncsnr(betas[:, start : start + step], ids) for start in starts]
        target[subject_name(number)] = np.concatenate([ratio.numpy() for ratio in ratios]).astype(np.float32)
