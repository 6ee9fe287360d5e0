"""Preparation of a dataset's released files into the working layout, one step for each dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.data.bold5000.files import Bold5000
from mindeye_pl.data.laion_fmri.files import LaionFmri
from mindeye_pl.data.mosaic.files import Mosaic
from mindeye_pl.data.released.preparation import Preparation, prepare
from mindeye_pl.data.things.files import Things
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint_folder


@dataclass(frozen=True)
class ReleasedFiles(Input):
    """The files that a preparation reads; opened, the `Preparation`."""

    step: "Prepare"

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the files' content."""
        found = self.step.preparation(config)
        return fingerprint_folder(found.folder, found.files())

    def open(self, config: DictConfig, parts: Inputs) -> Preparation:
        """Return the preparation."""
        return self.step.preparation(config)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the files that are not here."""
        found = self.step.preparation(config)
        absent = [path for path in found.files() if not path.is_file()]
        return [f"{len(absent)} files, the first {absent[0]} (docs/datasets.md)"] if absent else []


class Prepare(Step):
    """Base of the preparations; a dataset's own has a name, a title and the class of its files."""

    keys = ("data.subjects", "data.image_size", "data.voxel_regions")
    artifact_type = DATA
    released: ClassVar[type[Preparation]]

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return "subj" + "-".join(f"{subject:02d}" for subject in config.data.subjects)

    def preparation(self, config: DictConfig) -> Preparation:
        """Return the preparation of `data.source_dir`; a UserError without it."""
        data = config.data
        if data.get("source_dir") is None:
            raise UserError(f"data={data.source} needs its files", fix="paths.data=FOLDER (docs/datasets.md)")
        return self.released(
            Path(data.source_dir).expanduser(), list(data.subjects), data.image_size, data.get("voxel_regions")
        )

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the released files."""
        return {"released": ReleasedFiles(self)}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write the working layout."""
        report(prepare(inputs["released"], work.folder), work)


def report(facts: Mapping[str, Mapping[str, Any]], work: Work) -> None:
    """Print numbers of each subject, and keep them in the artifact."""
    for subject, found in facts.items():
        console.print(f"{subject}: {', '.join(f'{number:,} {what}' for what, number in found.items())}")
    write_json(work.folder / FACTS, facts)


class PrepareBold5000(Prepare):
    """BOLD5000, release 2.0."""

    name = "prepare_bold5000"
    title = "Preparation of BOLD5000"
    released = Bold5000


class PrepareThings(Prepare):
    """THINGS-fMRI, single-trial responses in table format."""

    name = "prepare_things"
    title = "Preparation of THINGS-fMRI"
    released = Things


class PrepareLaionFmri(Prepare):
    """LAION-fMRI with the lists of its splits."""

    name = "prepare_laion_fmri"
    title = "Preparation of LAION-fMRI"
    released = LaionFmri


class PrepareMosaic(Prepare):
    """Subjects of MOSAIC, of one dataset or of several."""

    name = "prepare_mosaic"
    title = "Preparation of MOSAIC"
    released = Mosaic


PREPARE_BOLD5000, PREPARE_THINGS = PrepareBold5000(), PrepareThings()
PREPARE_LAION_FMRI, PREPARE_MOSAIC = PrepareLaionFmri(), PrepareMosaic()
