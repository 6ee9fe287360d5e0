"""Trials for training: batches of equal parts of each subject, and a validation split of training images.

Legend: B batch, b trials of one subject in it, n trials, V voxels, R slots for repetitions.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import Dataset

from mindeye_pl.data.image_sources import Table, read_table
from mindeye_pl.data.layout.betas import NORMALISATIONS, BetaDtype, BetaNormalisation, betas_shape, read_betas
from mindeye_pl.data.layout.paths import DataLayout, check_files
from mindeye_pl.data.layout.splits import LeftOut
from mindeye_pl.data.layout.test_set import REPETITION_WEIGHTS, TestSet, load_test_set, load_tested_trials
from mindeye_pl.data.layout.trials import (
    NumSessions,
    TestImages,
    Trials,
    ValidateOn,
    assign_trial_slots,
    image_hash,
    is_validation,
    load_training_trials,
)
from mindeye_pl.data.resumable import FixedBatches, ResumableLoader, ResumableSampler, ignore_preemption, on_gpu
from mindeye_pl.data.sampling import SAMPLERS, BatchIndex, ByTrial, EqualShareSampler
from mindeye_pl.data.synthetic import SyntheticTrials, WithSynthetic
from mindeye_pl.errors import UserError
from mindeye_pl.types import (
    Averaging,
    BatchGrowth,
    BrainBatch,
    NonNegativeInt,
    OneOf,
    PositiveInt,
    ProperFraction,
    Seed,
    Subjects,
)

#: Trials whose betas are in memory at once while a normalisation is fitted.
_TRIALS_AT_ONCE = 750


class BrainDataset(Dataset[BrainBatch]):
    """A table of trials whose items are whole batches.

    Betas of each subject are `(n_s, V_s)` float32 or float16, and the `targets` as in `BrainBatch.targets`. Nothing
    random happens here, so workers need no seed, and arrays are shared with them as they are.
    """

    def __init__(
        self,
        voxels: Sequence[np.ndarray],
        trials: Sequence[Trials],
        targets: Mapping[str, Table],
        repetition_slots: int = 0,
    ):
        assert list(map(len, voxels)) == list(map(len, trials))
        self.voxels, self.trials, self.targets = voxels, trials, targets
        self.slots: list[np.ndarray] | None = None  # (n_s, R) of each subject, indices into its trials
        if repetition_slots:
            self.slots = [assign_trial_slots(of_subject.stimulus_ids, repetition_slots) for of_subject in trials]

    def __getitem__(self, index: BatchIndex) -> BrainBatch:
        """Return the batch of the sampled trials, voxels in float32."""
        stimulus_ids = np.concatenate([self.trials[subject].stimulus_ids[rows] for subject, rows in index])
        repetitions = None
        if (slots := self.slots) is not None:
            repetitions = [self._betas(subject, slots[subject][rows]) for subject, rows in index]  # (b, R, V_s)
        return BrainBatch(
            voxels=[self._betas(subject, rows) for subject, rows in index],  # (b, V_s)
            subject_index=[subject for subject, _ in index],
            stimulus_ids=torch.from_numpy(stimulus_ids),  # (B,)
            targets={kind: read_table(table, stimulus_ids) for kind, table in self.targets.items()},  # (B, ...)
            repetitions=repetitions,
        )

    def _betas(self, subject: int, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.voxels[subject][rows]).float()


class TrialDataModule(LightningDataModule):
    """Trials of one or more subjects from files in MindEye2's layout, real or simulated.

    `voxel_counts`, `stimulus_ids_needed` and `num_train_trials` need no betas, so the caller can embed the images
    before it sets `targets`.

    Args:
        root: folder of the dataset.
        subjects: in the order of their functional alignments.
        cache_dir: folder of the cached shard indices.
        targets: tables of learning targets by kind, `tokens` among them, rows by stimulus id; may be set later, before
            the first batch.
        num_sessions: the first n sessions of every subject, fractions allowed, or "all".
        batch_size: trials of a batch on one rank, over all subjects; a remainder is dropped.
        sampling: "published" (sessions drawn with replacement), "corrected" (trials drawn without replacement),
            "by_trial" (the same in epochs of as many trials as there are, Mind Reader's rule) or "by_image" (images
            drawn without replacement, MindEye1's rule).
        betas: "as_published", or "zscore_train_sessions".
        repetitions: weights of the test set's repetitions, "published", "corrected" or "single".
        max_repetitions: most presentations of an image, 3 in NSD; None takes what the trials have.
        averaging: of the repetitions: the model's "outputs", or the "voxels" before it.
        test_split: name of the test images' shard, "new_test" or "test" in NSD.
        left_out: images that are tested and not trained on; None for the standard split.
        validation_fraction: fraction of the training images held out, published 0.
        validation_images: held out of each subject at least, where the fraction is fewer images.
        validate_on: "held_out" images of the training, or the "tested" ones; a model that is selected by its validation
            scores is then selected on the test set.
        validation_pool: maximum number of images in a subject's validation batch; published curves use 300 images.
        trials_per_session: nominal, 750 in NSD; sets the epoch's length and the size of the shuffle buffer.
        steps_per_epoch: batches of an epoch on one rank, whatever the amount of data; None for one pass over the data.
        seed: of the draws and of the validation split.
        num_workers: of the data loaders; with 0 a batch costs a copy of its betas and tokens.
        beta_dtype: type of the training betas in memory; batches are float32 anyway.
        test_images: trials of shared1000 images in the training shards are refused, or dropped.
        repetition_slots: R of `BrainBatch.repetitions`; 0 omits them.
    """

    def __init__(
        self,
        root: str | Path,
        subjects: Subjects,
        *,
        cache_dir: str | Path,
        targets: Mapping[str, Table] | None = None,
        num_sessions: NumSessions = "all",
        batch_size: PositiveInt = 24,
        sampling: Annotated[str, OneOf(SAMPLERS)] = "published",
        betas: Annotated[str, OneOf(NORMALISATIONS)] = "as_published",
        repetitions: Annotated[str, OneOf(REPETITION_WEIGHTS)] = "published",
        max_repetitions: PositiveInt | None = None,
        averaging: Averaging = "outputs",
        test_split: str = "new_test",
        left_out: LeftOut | None = None,
        validation_fraction: ProperFraction = 0.05,
        validation_images: NonNegativeInt = 0,
        validate_on: ValidateOn = "held_out",
        validation_pool: PositiveInt = 300,
        trials_per_session: PositiveInt = 750,
        steps_per_epoch: PositiveInt | None = None,
        seed: Seed = 42,
        num_workers: NonNegativeInt = 0,
        beta_dtype: BetaDtype = "float32",
        test_images: TestImages = "refuse",
        repetition_slots: NonNegativeInt = 0,
    ):
        super().__init__()
        self.layout, self.subjects, self.cache_dir = DataLayout(Path(root)), tuple(subjects), Path(cache_dir)
        self.targets: dict[str, Table] = dict(targets or {})
        self.num_sessions, self.batch_size = num_sessions, batch_size
        self.growth: BatchGrowth | None = None  # of batches in a later part of the training
        self.synthetic: SyntheticTrials | None = None  # of a single subject, in every training batch
        self.repetitions, self.max_repetitions, self.averaging = repetitions, max_repetitions, averaging
        self.test_split, self.left_out = test_split, left_out
        self._sampler = SAMPLERS[sampling]
        self._normalisation = NORMALISATIONS[betas]
        self.validation_fraction, self.validation_images = validation_fraction, validation_images
        self.validate_on: ValidateOn = validate_on
        self.validation_pool, self.steps_per_epoch = validation_pool, steps_per_epoch
        self.trials_per_session, self.seed, self.num_workers = trials_per_session, seed, num_workers
        self.beta_dtype, self.repetition_slots = np.dtype(beta_dtype), repetition_slots
        self.test_images: TestImages = test_images
        self._train_betas: list[np.ndarray] | None = None  # (n_s, V_s) of each subject
        self._validation_betas: list[np.ndarray] | None = None

    @cached_property
    def trials(self) -> list[Trials]:
        """Each subject's training trials in the sessions in use, with validation images and without left-out images.

        Raises a UserError if a file is missing or damaged, there are too few sessions, or no trial of a subject is
        left.
        """
        check_files(self.layout, self.subjects)
        load = load_training_trials if self.left_out is None else self.left_out.training_trials
        where = (self.num_sessions, self.cache_dir)
        found = [load(self.layout, subject, *where, test_images=self.test_images) for subject in self.subjects]
        for trials in found:
            if self.left_out is not None and len(trials) == 0:
                what = f"data.split leaves subject {trials.subject} no training image in the sessions in use"
                raise UserError(what, got=self.left_out.name, fix="more sessions, or a split that leaves out less")
        return found

    @cached_property
    def train_trials(self) -> list[Trials]:
        """Trials of each subject without validation images; a UserError if none is left."""
        found = [trials.select(~self._held_out(trials)) for trials in self.trials]
        if self.validation_images and (empty := [trials for trials in found if not len(trials)]):
            what = f"data.validation_images leaves subject {empty[0].subject} no training image in the sessions in use"
            raise UserError(what, got=self.validation_images, fix="fewer, or more sessions")
        return found

    @cached_property
    def validation_trials(self) -> list[Trials]:
        """First trial of each validation image, at most `validation_pool` for each subject."""
        return [self._first_of_each_image(trials) for trials in self._trials_of_validation_images]

    @cached_property
    def _validation_reads(self) -> list[Trials]:
        """Trials read for validation: with repetition slots, all repetitions of its images."""
        if not self.repetition_slots:
            return self.validation_trials
        pairs = zip(self._trials_of_validation_images, self.validation_trials, strict=True)
        return [trials.select(np.isin(trials.stimulus_ids, shown.stimulus_ids)) for trials, shown in pairs]

    @cached_property
    def _trials_of_validation_images(self) -> list[Trials]:
        if self.validate_on == "held_out":
            return [trials.select(self._held_out(trials)) for trials in self.trials]
        where = (self.test_split, self.cache_dir, self.left_out)
        return [load_tested_trials(self.layout, subject, *where) for subject in self.subjects]

    def _held_out(self, trials: Trials) -> np.ndarray:
        ids, fraction = trials.stimulus_ids, self.validation_fraction
        return is_validation(ids, fraction, self.seed, at_least=self.validation_images)

    def _first_of_each_image(self, trials: Trials) -> Trials:
        stimulus_ids, first = np.unique(trials.stimulus_ids, return_index=True)
        pool = np.argsort(image_hash(stimulus_ids, self.seed))[: self.validation_pool]
        return trials.select(np.sort(first[pool]))

    @cached_property
    def voxel_counts(self) -> dict[int, int]:
        """V by subject."""
        check_files(self.layout, self.subjects)
        return {subject: betas_shape(self.layout, subject)[1] for subject in self.subjects}

    @property
    def num_train_trials(self) -> int:
        """Number of training trials over all subjects."""
        return sum(map(len, self.train_trials))

    @property
    def sessions_in_use(self) -> float:
        """Number of sessions of the first subject's training trials, a part of one as a fraction."""
        return len(np.unique(self.trials[0].sessions)) if self.num_sessions == "all" else self.num_sessions

    def stimulus_ids_needed(self) -> np.ndarray:
        """Return the images whose targets training and validation use, `(n,)` int64, ascending."""
        measured = [trials.stimulus_ids for trials in self.train_trials + self.validation_trials]
        return np.unique(np.concatenate([*measured, *([self.synthetic.stimulus_ids] if self.synthetic else [])]))

    def normalisation(self, subject: int) -> BetaNormalisation:
        """Return the normalisation of a subject's betas, fitted on its training trials."""
        rows = self.train_trials[self.subjects.index(subject)].beta_rows
        sessions = np.array_split(rows, math.ceil(len(rows) / _TRIALS_AT_ONCE))
        return self._normalisation.fit(read_betas(self.layout, subject, session) for session in sessions)

    def normalised_betas(self, trials: Trials) -> np.ndarray:
        """Return the normalised betas `(n, V)` of trials of one subject."""
        return self.normalisation(trials.subject)(read_betas(self.layout, trials.subject, trials.beta_rows))

    def setup(self, stage: str | None = None) -> None:
        """Read the betas of training and validation only."""
        if self._train_betas is None:
            normalisations = list(map(self.normalisation, self.subjects))
            self._validation_betas = list(map(self._read, self._validation_reads, normalisations))
            self._train_betas = list(map(self._read, self.train_trials, normalisations))

    def _read(self, trials: Trials, normalisation: BetaNormalisation) -> np.ndarray:
        betas = normalisation(read_betas(self.layout, trials.subject, trials.beta_rows))
        return betas.astype(self.beta_dtype, copy=False)

    def betas_in_use(self) -> np.ndarray:
        """Return a single subject's betas of the training trials, followed by the validation trials, `(n, V)`."""
        (trained,), (held_out,) = self._train_betas or [], self._validation_betas or []
        return np.concatenate([trained, held_out])

    def train_sampler(self, rank: int = 0, world_size: int = 1, epoch: int = 0) -> EqualShareSampler | WithSynthetic:
        """Return the sampler of one rank's batches; its length is the number of steps per epoch."""
        sampler = self._sampler_of(self.batch_size, rank, world_size)
        if self.growth is None or epoch < self.growth.from_epoch:
            return sampler
        subjects = len(self.subjects)
        images = min(len(np.unique(trials.stimulus_ids)) for trials in self.train_trials)
        largest = subjects * min(images, sampler.share * len(sampler))  # distinct images, and one batch per epoch
        return self._sampler_of(min(self.growth.factor * self.batch_size, largest), rank, world_size)

    def batches_of_epochs(self, epochs: int, world_size: int = 1) -> list[int]:
        """Return the number of batches on one rank in each epoch, which depends on `growth`."""
        first = epochs if self.growth is None else min(self.growth.from_epoch, epochs)
        small, large = (len(self.train_sampler(0, world_size, epoch)) for epoch in (0, epochs))
        return [small] * first + [large] * (epochs - first)

    def _sampler_of(self, batch_size: int, rank: int, world_size: int) -> EqualShareSampler | WithSynthetic:
        where = {"seed": self.seed, "rank": rank, "world_size": world_size}
        measured = partial(
            self._sampler,
            self.train_trials,
            trials_per_session=self.trials_per_session,
            num_sessions=None if self.num_sessions == "all" else self.num_sessions,
            max_repetitions=self.max_repetitions,
            **where,
        )
        if self.synthetic is None:
            return measured(batch_size=batch_size, steps_per_epoch=self.steps_per_epoch)
        trials, share = self.synthetic.trials(self.subjects[0]), self.synthetic.share(batch_size)
        # As many steps as without synthetic trials, so that an epoch means the same.
        steps = len(measured(batch_size=batch_size, steps_per_epoch=self.steps_per_epoch))
        drawn = ByTrial([trials], batch_size=share, trials_per_session=len(trials), steps_per_epoch=steps, **where)
        return WithSynthetic(measured(batch_size=batch_size - share, steps_per_epoch=steps), drawn)

    def train_dataloader(self) -> "ResumableLoader[BrainBatch]":
        """Return the loader of the trainer's current epoch: batches of equal parts of all subjects."""
        trainer = self.trainer
        where = (trainer.global_rank, trainer.world_size, trainer.current_epoch) if trainer else ()
        sampler: ResumableSampler[BatchIndex] = self.train_sampler(*where)
        if getattr(trainer, "overfit_batches", 0):
            sampler = FixedBatches(list(sampler))
        betas, trials = self._train_betas, self.train_trials
        if self.synthetic is not None and betas is not None:
            betas = [np.concatenate([betas[0], self.synthetic.betas[:].astype(self.beta_dtype)])]
            trials = [trials[0] + self.synthetic.trials(self.subjects[0])]
        return self._loader(betas, trials, sampler)

    def val_dataloader(self) -> "ResumableLoader[BrainBatch] | list":
        """Return a loader of one batch per subject: single trials of distinct validation images."""
        shown = zip(self._validation_reads, self.validation_trials, strict=True)
        batches: list[BatchIndex] = [
            [(index, np.flatnonzero(np.isin(reads.beta_rows, trials.beta_rows)))]
            for index, (reads, trials) in enumerate(shown)
            if len(trials)
        ]
        if self.validation_fraction and len(batches) < len(self.subjects):
            rank_zero_warn(
                f"{len(self.subjects) - len(batches)} subjects have no validation image in the sessions in use: "
                f"raise data.validation_fraction ({self.validation_fraction}) to see their curves"
            )
        return self._loader(self._validation_betas, self._validation_reads, FixedBatches(batches)) if batches else []

    def _loader(
        self, betas: list[np.ndarray] | None, trials: list[Trials], sampler: ResumableSampler[BatchIndex]
    ) -> "ResumableLoader[BrainBatch]":
        assert betas is not None, "call `setup` before the first batch"
        assert "tokens" in self.targets, "set `targets` before the first batch"
        return ResumableLoader(
            BrainDataset(betas, trials, self.targets, self.repetition_slots),
            sampler=sampler,
            batch_size=None,  # the sampler yields whole batches
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_preemption,
            pin_memory=on_gpu(self.trainer),
        )

    def test_set(self, subject: int) -> TestSet:
        """Return the test images of a subject, for the evaluation only; errors as `load_test_set`."""
        return load_test_set(
            self.layout,
            subject,
            normalisation=self.normalisation(subject),
            cache_dir=self.cache_dir,
            split=self.test_split,
            repetitions=self.repetitions,
            max_repetitions=self.max_repetitions,
            averaging=self.averaging,
            left_out=self.left_out,
        )
