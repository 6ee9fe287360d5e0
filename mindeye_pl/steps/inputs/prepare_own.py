"""A laboratory's own recordings, prepared once into the working layout."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mindeye_pl.data.own.folder import TUTORIAL, StudyFolder
from mindeye_pl.data.own.preparation import PreparationSettings, prepare_own
from mindeye_pl.data.own.study import Study, plan_study, study_files
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


@dataclass(frozen=True)
class OwnStudy(Input):
    """Betas, events, masks and images of a study; opened, a `Study`."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the names and contents of all files that are used."""
        study = self.open(config)
        files = {name: fingerprint_file(path) for name, path in study_files(_folder(config))}
        return fingerprint([files, {name: fingerprint_file(path) for name, path in study.images.items()}])

    def open(self, config: DictConfig, parts: Inputs | None = None) -> Study:
        """Return the study, checked but for the values of the betas and the pixels of the images."""
        return plan_study(_folder(config), image_column=config.own.image_column, dataset=config.own.dataset)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the folder, if it is not there."""
        folder = _folder(config).path
        return [] if folder.is_dir() else [f"the folder own.path={folder} ({TUTORIAL})"]

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check all files against each other."""
        self.open(config)


def _folder(config: DictConfig) -> StudyFolder:
    own = config.get("own")
    if own is None:
        raise UserError("data are not a laboratory's own", got=f"data={config.data.source}", fix="data=own")
    if own.path is None:
        raise UserError("data=own needs the folder of a study", fix=f"own.path=FOLDER ({TUTORIAL})")
    return StudyFolder(Path(own.path), own.betas, own.events, own.images, own.mask)


class PrepareOwn(Step):
    """Prepares a laboratory's own recordings."""

    name = "prepare_own"
    title = "Preparation of your recordings"
    keys = (
        *("own.dataset", "own.image_column", "own.split", "own.test_fraction"),
        *("own.zscore", "own.image_size", "own.squaring"),
    )
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the folder's name and the number of subjects."""
        return f"{_folder(config).path.resolve().name}-{len(config.data.subjects)}-subjects"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the study's files."""
        return {"study": OwnStudy()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Prepare all subjects; files of a killed preparation are removed, since the whole takes minutes at most."""
        for path in work.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        own = settings.own
        chosen = PreparationSettings(own.split, own.test_fraction, own.zscore, own.image_size, own.squaring)
        write_json(work.folder / FACTS, prepare_own(inputs["study"], chosen, work.folder))


PREPARE_OWN = PrepareOwn()
