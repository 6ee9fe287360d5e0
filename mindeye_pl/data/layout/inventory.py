"""Inventory of a folder in the working layout: MindEye2's prepared NSD, or any dataset that was prepared into it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindeye_pl.data.inventory import Inventory, SubjectFacts
from mindeye_pl.data.layout.betas import betas_shape, read_betas
from mindeye_pl.data.layout.brain_mask import read_brain_mask
from mindeye_pl.data.layout.paths import FETCH_AGAIN, DataLayout, subject_name
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.stimuli import Stimuli, read_captions
from mindeye_pl.data.layout.trials import Trials, count_sessions, load_test_trials, load_training_trials
from mindeye_pl.errors import UserError

#: Trials of a session whose betas are read, and images that are looked at.
_TRIALS, _IMAGES = 32, 16
#: Betas of a z-scored session have mean 0 and standard deviation 1; a sample of trials differs from it.
_MEAN, _DEVIATION = 0.3, (0.6, 1.6)

_AGREEMENT = "of NSD: the data agreement of naturalscenesdataset.org; of other data: their own"
_NOT_ZSCORED = "betas of {} are not z-scored within sessions: data.betas=zscore_train_sessions scales them"


def take_inventory(folder: Path, cache: Path, voxel_counts: Mapping[int, int] | None, dataset: str) -> Inventory | None:
    """Return the inventory of a folder, None if it has no betas in this layout.

    Args:
        folder: the folder.
        cache: of the indices of tar shards.
        voxel_counts: V that each subject should have, None for any.
        dataset: options of a command that reads the folder, as in "data=nsd paths.nsd=FOLDER".
    """
    layout = DataLayout(folder)
    if not layout.subjects():
        return None
    simulated = layout.simulation.is_file()
    found = Inventory("the working layout" + (", simulated" if simulated else ""), "none" if simulated else _AGREEMENT)
    found.add("images", "everything", [layout.stimuli], lambda: _images(layout))
    for subject in layout.subjects():
        _add_subject(found, layout, subject, cache, (voxel_counts or {}).get(subject))
    _add_optional(found, layout)
    if len(ready := [facts.name for facts in found.subjects]) < len(layout.subjects()):
        found.remarks.append(f"ready: {', '.join(ready) or 'no subject'}")
    numbers = [subject for subject in layout.subjects() if subject_name(subject) in ready]
    found.commands = _commands(numbers, dataset)
    return found


def _images(layout: DataLayout) -> str:
    count, _, height, width = Stimuli(layout.stimuli).shape
    return f"{count:,} of {width} x {height}"


def _add_subject(found: Inventory, layout: DataLayout, subject: int, cache: Path, voxels: int | None) -> None:
    name = subject_name(subject)

    def betas() -> str:
        trials, count = betas_shape(layout, subject)
        other = f"; {voxels:,} voxels are expected" if voxels not in (None, count) else ""
        return f"{trials:,} trials x {count:,} voxels{other}"

    shards = [layout.shard(subject, "train", index) for index in range(count_sessions(layout, subject))]
    splits = layout.test_splits(subject)
    whole = found.add(f"{name}: betas", "everything", [layout.betas(subject)], betas)
    whole &= found.add(f"{name}: training trials", "training", shards, lambda: f"{len(shards)} sessions")
    tests = [layout.shard(subject, split) for split in splits]
    whole &= found.add(f"{name}: test trials", "evaluation", tests, lambda: ", ".join(splits))
    if whole:
        with found.examining(f"{name}: trials", "everything"):
            training = load_training_trials(layout, subject, "all", cache, test_images="drop")
            tested = load_test_trials(layout, subject, splits[0], cache)
            facts = _facts(layout, training, tested)
            found.subjects.append(facts)
            low, high = facts.deviation
            if max(map(abs, facts.mean)) > _MEAN or low < _DEVIATION[0] or high > _DEVIATION[1]:
                found.remarks.append(_NOT_ZSCORED.format(name))
            _look_at_images(layout, training)


def _facts(layout: DataLayout, training: Trials, tested: Trials) -> SubjectFacts:
    subject = training.subject
    means, deviations = [], []
    for session in np.unique(training.sessions):
        rows = training.beta_rows[training.sessions == session]
        betas = read_betas(layout, subject, rows[:: -(-len(rows) // _TRIALS)])
        means.append(float(betas.mean()))
        deviations.append(float(betas.std()))
    shown = np.concatenate([training.stimulus_ids, tested.stimulus_ids])
    counts = np.unique(shown, return_counts=True)[1]
    return SubjectFacts(
        name=subject_name(subject),
        voxels=betas_shape(layout, subject)[1],
        sessions=len(means),
        training=(len(training), len(np.unique(training.stimulus_ids))),
        tested=(len(tested), len(np.unique(tested.stimulus_ids))),
        repetitions=(int(counts.min()), int(counts.max())),
        mean=(min(means), max(means)),
        deviation=(min(deviations), max(deviations)),
    )


def _look_at_images(layout: DataLayout, trials: Trials) -> None:
    """Raise a UserError if images that were shown are out of range or empty."""
    ids = np.unique(trials.stimulus_ids)
    ids = ids[:: -(-len(ids) // _IMAGES)]
    images = Stimuli(layout.stimuli).read(ids)
    if (empty := ids[images.reshape(len(ids), -1).max(1) == 0]).size:
        what, fix = f"{layout.stimuli} has no pixels of an image that was shown", FETCH_AGAIN
        raise UserError(what, got=f"stimulus {empty[0]} is black", fix=fix)


def _add_optional(found: Inventory, layout: DataLayout) -> None:
    subjects = layout.subjects()

    def regions() -> str:
        return ", ".join(read_regions(layout, subjects[0]))

    def ncsnr() -> str:
        ratio = read_ncsnr(layout, subjects[0])
        assert ratio is not None, "the file is there"
        return f"median {np.median(ratio):.2g} of {subject_name(subjects[0])}"

    def captions() -> str:
        sentences = read_captions(layout.captions, len(Stimuli(layout.stimuli)))
        return f"{sum(map(len, sentences)):,} sentences"

    def positions() -> str:
        masks = {subject: layout.brain_mask(subject) for subject in subjects}
        there = {subject: path for subject, path in masks.items() if path.is_file()}
        for subject, path in there.items():
            read_brain_mask(path, betas_shape(layout, subject)[1])
        return ", ".join(map(subject_name, there))

    found.add("region masks", "scores by region (optional)", [layout.region_masks], regions)
    found.add("noise ceilings", "scores over the noise ceiling (optional)", [layout.ncsnr], ncsnr)
    found.add("captions", "caption scores, Mind Reader (optional)", [layout.captions], captions)
    found.add("voxel positions", "brain maps (optional)", list(map(layout.brain_mask, subjects)), positions)


def _commands(subjects: list[int], dataset: str) -> list[str]:
    if not subjects:
        return []
    first, others = subjects[0], subjects[1:]
    start = f"pretrain.subjects=[{','.join(map(str, others))}]" if others else "finetune.start=scratch"
    options = f"{dataset} data.subjects=[{','.join(map(str, subjects))}] data.subject={first} {start}"
    return [f"python -m mindeye_pl +experiment=finetune scale=small {options}"]
