"""The NSD data of a run: simulated, converted, or read from a folder that the user names."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.data.layout.listed_splits import SPLITS_LAYOUT
from mindeye_pl.data.layout.paths import DataLayout, check_files, fingerprint_files
from mindeye_pl.data.layout.splits import LeftOut
from mindeye_pl.data.layout.stimuli import CAPTIONS_LAYOUT, Stimuli, read_captions
from mindeye_pl.data.layout.test_set import load_tested_trials
from mindeye_pl.data.layout.trials import load_training_trials
from mindeye_pl.engine.step import MISSING, FingerprintOf, Input, Inputs, Made, Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_file

#: Optional files of a dataset, by their names in `DataLayout`.
CAPTIONS, REGION_MASKS, NCSNR, SPLITS = "captions", "region_masks", "ncsnr", "splits"

#: Values of `data.source` whose subjects are NSD's, measured or simulated.
SIMULATED = "simulated"
NSD_SOURCES = (SIMULATED, "nsd", "nsd_mindeye1", "nsd_release")


@dataclass(frozen=True)
class Dataset:
    """NSD on disk.

    Attributes:
        layout: paths of the files.
        cache: folder of the indices of tar shards.
        is_simulated: whether its numbers are labelled simulated.
        images_fingerprint: of the images file, or of the step that makes it.
    """

    layout: DataLayout
    cache: Path
    is_simulated: bool
    images_fingerprint: str

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images by stimulus id."""
        return Stimuli(self.layout.stimuli)

    def test_ids(self, subject: int, test_split: str, left_out: LeftOut | None) -> np.ndarray:
        """Return the stimulus ids of a subject's test images, ascending."""
        return np.unique(load_tested_trials(self.layout, subject, test_split, self.cache, left_out).stimulus_ids)


def data_steps(config: DictConfig) -> tuple[Step, ...]:
    """Return the step that makes the data, `data.made_by`; none where they are read from a folder, `data.root`.

    Raises:
        UserError: if `data.made_by` names no step.
    """
    path = config.data.get("made_by")
    return () if path is None or config.data.root is not None else (_step(path),)


def _step(path: str) -> Step:
    try:
        step = locate(path)
    except ErrorDuringImport as error:
        raise UserError(f"data.made_by cannot be imported ({error.exc}: {error.value})", got=path) from error
    if not isinstance(step, Step):
        raise UserError("data.made_by names no step", got=path, expected="an instance of mindeye_pl.engine.step.Step")
    return step


def is_simulated(config: DictConfig) -> bool:
    """Return whether every number of the run is of simulated data."""
    if steps := data_steps(config):
        return steps[0].is_simulated(config)
    return user_layout(config).simulation.exists()


def user_layout(config: DictConfig) -> DataLayout:
    """Return the layout of the folder that the user names; where none is named, that of a folder `nsd`."""
    return DataLayout(Path(config.data.root or "nsd"))


class OfData(Input):
    """An input that is read from the data, which a step makes or the user brings."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the folder that a step makes and its fingerprint; nothing where the data are the user's."""
        return {name: of(step) for step in data_steps(config) for name, of in _MADE_BY_A_STEP.items()}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's files; the step's own has the others."""
        return None if data_steps(config) else self.files_fingerprint(user_layout(config))

    def is_simulated(self, config: DictConfig) -> bool:
        """Return whether a step simulates the data, or the user's are simulated ones."""
        return is_simulated(config)

    @abstractmethod
    def files_fingerprint(self, layout: DataLayout) -> str:
        """Return the fingerprint of the files that are read."""

    def layout(self, config: DictConfig, parts: Inputs) -> DataLayout:
        """Return the layout, its files made now where a step makes them."""
        return DataLayout(parts["made"]) if "made" in parts else user_layout(config)


_MADE_BY_A_STEP = {"made": Made, "fingerprint": FingerprintOf}


@dataclass(frozen=True)
class Images(OfData):
    """The images file alone; opened, a `Dataset`."""

    def files_fingerprint(self, layout: DataLayout) -> str:
        """Return the fingerprint of the images file."""
        return fingerprint_file(layout.stimuli)

    def open(self, config: DictConfig, parts: Inputs) -> Dataset:
        """Return the dataset."""
        layout = self.layout(config, parts)
        images = parts["fingerprint"] if "fingerprint" in parts else fingerprint_file(layout.stimuli)
        return Dataset(layout, Path(config.paths.cache), is_simulated(config), images)


@dataclass(frozen=True)
class Data(Images):
    """Images, betas and trials of some subjects; opened, a `Dataset`.

    Attributes:
        subjects: whose files are read.
        splits: the shards that are read.
    """

    subjects: tuple[int, ...]
    splits: tuple[str, ...] = ("train",)

    def files_fingerprint(self, layout: DataLayout) -> str:
        """Return the fingerprint of images, betas and shards."""
        check_files(layout, self.subjects, self.splits)
        return fingerprint_files(layout, self.subjects, self.splits)

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the sessions that are asked for, and the trials of the user's own files."""
        amounts = dict.fromkeys(self.subjects, config.pretrain.num_sessions)
        amounts |= {subject: config.data.num_sessions for subject in self.subjects if subject == config.data.subject}
        if not data_steps(config):
            check_files(user_layout(config), self.subjects, self.splits)
            how = {"test_images": config.data.test_images_in_training}
            for subject, sessions in amounts.items():
                load_training_trials(user_layout(config), subject, sessions, Path(config.paths.cache), **how)
            for subject, split in product(self.subjects, set(self.splits) - {"train"}):
                _check_tested(user_layout(config), subject, split, Path(config.paths.cache))
        elif config.data.source == SIMULATED:
            for subject, sessions in amounts.items():
                _check_simulated_sessions(config.simulation.num_sessions, subject, sessions)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the data folder, if it is not there."""
        if data_steps(config) or (root := user_layout(config).root).is_dir():
            return []
        return [f"the data folder {root} (paths.nsd=FOLDER, or docs/data.md)"]


def _check_tested(layout: DataLayout, subject: int, split: str, cache: Path) -> None:
    ids = load_tested_trials(layout, subject, split, cache, None).stimulus_ids
    if (ids == ids[0]).all():
        what = f"{layout.shard(subject, split)} contains trials of one test image"
        raise UserError(what, got=f"stimulus {ids[0]}", expected="images to tell from each other")


def _check_simulated_sessions(simulated: int | DictConfig, subject: int, wanted: float | Literal["all"]) -> None:
    existing = simulated if isinstance(simulated, int) else simulated.get(subject)
    if existing is not None and wanted != "all" and wanted > existing:
        what = f"data.num_sessions is more than the simulated world has of subject {subject}"
        raise UserError(what, got=wanted, expected=f"up to {existing}, or all", fix=f"data.num_sessions={existing}")


@dataclass(frozen=True)
class DataFile(OfData):
    """An optional file beside the data; opened, its path, or None where it is missing.

    Attributes:
        name: in `DataLayout`: `captions`, `region_masks`, `ncsnr` or `splits`.
        required: refuses data without it.
    """

    name: str
    required: bool = False

    def files_fingerprint(self, layout: DataLayout) -> str:
        """Return the file's fingerprint, `MISSING` where there is none and none is required."""
        path: Path = getattr(layout, self.name)
        if path.is_file():
            return fingerprint_file(path)
        if self.required:
            raise UserError(
                f"data have no {self.name.replace('_', ' ')}",
                got=f"no {path.name} in {path.parent}",
                expected={CAPTIONS: CAPTIONS_LAYOUT, SPLITS: SPLITS_LAYOUT}.get(self.name, path.name),
                fix="docs/data.md says more",
            )
        return MISSING

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the captions of the user's own data: a list over all images of lists of sentences."""
        layout = user_layout(config)
        if self.name == CAPTIONS and not data_steps(config) and layout.captions.is_file():
            read_captions(layout.captions, len(Stimuli(layout.stimuli)))

    def open(self, config: DictConfig, parts: Inputs) -> Path | None:
        """Return the path of the file."""
        path: Path = getattr(self.layout(config, parts), self.name)
        return path if path.is_file() else None
