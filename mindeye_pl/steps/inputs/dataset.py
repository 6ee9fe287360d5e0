"""The NSD data of a run: simulated, converted, or read from a folder that the user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pydoc import ErrorDuringImport, locate

from omegaconf import DictConfig

from mindeye_pl.data.nsd.captions import LAYOUT
from mindeye_pl.data.nsd.files import check_files
from mindeye_pl.data.nsd.fingerprint import fingerprint_files
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import MISSING, Input, Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_file, fingerprint_folder

#: Optional files of a dataset, by their names in `NSDLayout`.
CAPTIONS, REGION_MASKS, NCSNR = "captions", "region_masks", "ncsnr"

#: Values of `data.source` whose subjects are NSD's, measured or simulated.
SIMULATED = "simulated"
NSD_SOURCES = (SIMULATED, "nsd", "nsd_mindeye1")


@dataclass(frozen=True)
class Dataset:
    """NSD on disk.

    Attributes:
        layout: paths of the files.
        cache: folder of the indices of tar shards.
        is_simulated: whether its numbers are labelled simulated.
        images_fingerprint: of the images file, or of the step that makes it.
    """

    layout: NSDLayout
    cache: Path
    is_simulated: bool
    images_fingerprint: str

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images by stimulus id."""
        return Stimuli(self.layout.stimuli)


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
        return bool(steps[0].is_simulated(config))
    return _user_layout(config).simulation.exists()


def _user_layout(config: DictConfig) -> NSDLayout:
    return NSDLayout(Path(config.data.root or "nsd"))


def _layout(run: Run) -> NSDLayout:
    """Return the layout, its files made now where a step makes them."""
    steps = data_steps(run.config)
    return NSDLayout(run.make(steps[0]).folder) if steps else _user_layout(run.config)


def _images_fingerprint(run: Run) -> str:
    if steps := data_steps(run.config):
        return run.spec(steps[0]).fingerprint
    return fingerprint_file(_user_layout(run.config).stimuli)


def open_dataset(run: Run) -> Dataset:
    """Return the dataset of a run."""
    return Dataset(_layout(run), Path(run.config.paths.cache), is_simulated(run.config), _images_fingerprint(run))


@dataclass(frozen=True)
class Data(Input):
    """Images, betas and trials of some subjects; opened, a `Dataset`.

    Attributes:
        subjects: whose files are read.
        splits: the shards that are read.
    """

    subjects: tuple[int, ...]
    splits: tuple[str, ...] = ("train",)

    def steps(self, config: DictConfig) -> Sequence[Step]:
        """Return the step that simulates or converts them."""
        return data_steps(config)

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of the step that makes them, or of the user's files."""
        if steps := data_steps(run.config):
            return run.spec(steps[0]).fingerprint
        layout = _user_layout(run.config)
        check_files(layout, self.subjects, self.splits)
        return fingerprint_files(layout, self.subjects, self.splits)

    def open(self, run: Run) -> Dataset:
        """Return the dataset."""
        return open_dataset(run)

    def missing(self, run: Run) -> list[str]:
        """Return the data folder, if it is not there."""
        if data_steps(run.config) or (root := _user_layout(run.config).root).is_dir():
            return []
        return [f"the data folder {root} (paths.nsd=FOLDER, or docs/data.md)"]


@dataclass(frozen=True)
class Images(Input):
    """The images file alone; opened, a `Dataset`."""

    def steps(self, config: DictConfig) -> Sequence[Step]:
        """Return the step that simulates or converts them."""
        return data_steps(config)

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of the file, or of the step that makes it."""
        return _images_fingerprint(run)

    def open(self, run: Run) -> Dataset:
        """Return the dataset."""
        return open_dataset(run)


@dataclass(frozen=True)
class SourceFolder(Input):
    """The files of the user's that a step converts, all below `data.source_dir`; opened, the folder's path."""

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of all files."""
        folder = self.open(run)
        return fingerprint_folder(folder, (path for path in folder.rglob("*") if path.is_file()))

    def open(self, run: Run) -> Path:
        """Return the folder."""
        return Path(run.config.data.source_dir)

    def missing(self, run: Run) -> list[str]:
        """Return the folder, if it is not there."""
        folder = run.config.data.source_dir
        return [] if folder and Path(folder).is_dir() else [f"the folder data.source_dir={folder}"]


@dataclass(frozen=True)
class DataFile(Input):
    """An optional file beside the data; opened, its path, or None where it is missing.

    Attributes:
        name: in `NSDLayout`: `captions`, `region_masks` or `ncsnr`.
        required: refuses data without it.
    """

    name: str
    required: bool = False

    def steps(self, config: DictConfig) -> Sequence[Step]:
        """Return the step that makes the data."""
        return data_steps(config)

    def fingerprint(self, run: Run) -> str:
        """Return the file's fingerprint, `MISSING` where there is none.

        Raises:
            UserError: if it is required and missing.
        """
        if steps := data_steps(run.config):
            return run.spec(steps[0]).fingerprint
        path: Path = getattr(_user_layout(run.config), self.name)
        if path.is_file():
            return fingerprint_file(path)
        if self.required:
            raise UserError(
                f"data have no {self.name.replace('_', ' ')}",
                got=f"no {path.name} in {path.parent}",
                expected=LAYOUT if self.name == CAPTIONS else path.name,
                fix="docs/data.md says more",
            )
        return MISSING

    def open(self, run: Run) -> Path | None:
        """Return the path of the file."""
        path: Path = getattr(_layout(run), self.name)
        return path if path.is_file() else None
