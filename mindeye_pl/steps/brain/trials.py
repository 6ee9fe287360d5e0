"""Trials of a run's subjects as a data module, with or without the targets that a training learns."""

from typing import Any

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.splits import LeftOut
from mindeye_pl.data.layout.trials import ValidateOn
from mindeye_pl.engine.settings import Settings
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.targets import ImageTargets

#: Settings of the trials that a training's weights depend on.
TRAINING_TRIALS = (
    *("seed", "data.betas", "data.sampling", "data.trials_per_session", "data.validation_fraction"),
    *("data.validation_images", "data.beta_dtype", "data.max_repetitions"),
)
#: Settings of the same data module that change nothing in a training; test images in it are refused or left out.
TRAINING_RUNTIME = (
    *("data.num_workers", "data.repetitions", "data.averaging", "data.test_split"),
    "data.test_images_in_training",
)

#: Settings of one subject's test set, and of the training trials that its betas are scaled by.
TEST_TRIALS = (
    *("seed", "data.subject", "data.num_sessions", "data.betas", "data.repetitions", "data.averaging"),
    *("data.max_repetitions", "data.test_split", "data.validation_fraction", "data.validation_images"),
)
#: Settings of the same data module that change nothing in a test set.
TEST_RUNTIME = (
    *("data.num_workers", "data.sampling", "data.trials_per_session"),
    *("data.beta_dtype", "data.test_images_in_training"),
)


def trial_data(
    dataset: Dataset,
    settings: Settings,
    left_out: LeftOut | None,
    *,
    subjects: list[int],
    num_sessions: int | str,
    batch_size: int = 24,
    steps_per_epoch: int | None = None,
    validate_on: ValidateOn = "held_out",
) -> TrialDataModule:
    """Return the data of these subjects, without targets of their images.

    Args:
        dataset: on disk.
        settings: with the keys `TRAINING_TRIALS` and `TRAINING_RUNTIME`, or those of tests.
        left_out: images that no training sees.
        subjects: in the order of their functional alignments.
        num_sessions: the first n of every subject, or "all".
        batch_size: trials of a batch on one rank, over all subjects.
        steps_per_epoch: batches of an epoch; None for one pass over the data.
        validate_on: "held_out" training images, or the "tested" ones.
    """
    options = trial_options(dataset, settings, left_out, num_sessions=num_sessions)
    options |= {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "validate_on": validate_on}
    return TrialDataModule(dataset.layout.root, subjects, **options)


def trial_options(
    dataset: Dataset, settings: Settings, left_out: LeftOut | None, *, num_sessions: int | str
) -> dict[str, Any]:
    """Return the options of a data module that the settings determine; arguments as of `trial_data`."""
    data = settings.data
    return {
        "cache_dir": dataset.cache,
        "num_sessions": num_sessions,
        "sampling": data.sampling,
        "betas": data.betas,
        "repetitions": data.repetitions,
        "max_repetitions": data.max_repetitions,
        "averaging": data.averaging,
        "test_split": data.test_split,
        "left_out": left_out,
        "validation_fraction": data.validation_fraction,
        "validation_images": data.validation_images,
        "trials_per_session": data.trials_per_session,
        "seed": settings.seed,
        "num_workers": data.num_workers,
        "beta_dtype": data.beta_dtype,
        "test_images": data.test_images_in_training,
    }


def subject_trials(dataset: Dataset, settings: Settings, left_out: LeftOut | None, **chosen: Any) -> TrialDataModule:
    """Return trials and test set of `data.subject`, in `data.num_sessions` sessions unless another number is chosen."""
    chosen = {"num_sessions": settings.data.num_sessions, **chosen}
    return trial_data(dataset, settings, left_out, subjects=[settings.data.subject], **chosen)


def add_targets(data: TrialDataModule, targets: ImageTargets) -> None:
    """Give the data module the targets of all its images, made now where they are missing."""
    data.targets = dict(targets.stores(data.stimulus_ids_needed()))


def mean_responses(data: TrialDataModule, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each training image's mean normalised betas `(n, V)` float32, and the `(n,)` ascending ids."""
    trials = data.train_trials[data.subjects.index(subject)]
    betas = data.normalised_betas(trials)  # (trials, V)
    return image_means(betas, trials.stimulus_ids)


def image_means(voxels: np.ndarray, stimulus_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each image's trials `(trials, V)`, `(n, V)` float32, and the `(n,)` ascending ids."""
    ids, inverse, counts = np.unique(stimulus_ids, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    sums = np.add.reduceat(voxels[order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    return (sums / counts[:, None]).astype(np.float32), ids


def hours(num_sessions: int | float | str, config: DictConfig) -> str:
    """Return the amount of data in hours, for tags."""
    return num_sessions if isinstance(num_sessions, str) else f"{num_sessions * config.data.hours_per_session:g}"


def trials_label(config: DictConfig) -> str:
    """Return `data.subject` and the sessions of its data in use, for labels: `subj01-1h`."""
    sessions = config.data.num_sessions
    return f"subj{config.data.subject:02d}-{'all' if sessions == 'all' else f'{sessions}h'}"


def subject_tags(config: DictConfig) -> list[str]:
    """Return the tags of a step that reads `data.subject`: the subject, the hours of its data, the subject's label."""
    data = config.data
    label = (data.get("labels") or {}).get(data.subject)
    return [f"subj{data.subject:02d}", f"hours={hours(data.num_sessions, config)}", *([label] if label else [])]
