"""Further test splits of NSD: NSD-synthetic and NSD-imagery beside the shared1000."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mindeye_pl.data.layout.paths import DataLayout, check_files, fingerprint_files
from mindeye_pl.data.nsd_tests.further_test import FurtherTest
from mindeye_pl.data.nsd_tests.imagery import Imagery
from mindeye_pl.data.nsd_tests.synthetic import Synthetic
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.prepare import report
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file, fingerprint_folder


@dataclass(frozen=True)
class TrainingFiles(Input):
    """NSD in the working layout; opened, its layout."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the subjects' files, with all of their splits, and of the optional files."""
        layout, subjects = _training(config), list(config.data.subjects)
        check_files(layout, subjects)
        splits = sorted({split for subject in subjects for split in ("train", *layout.test_splits(subject))})
        companions = [path for path in (layout.region_masks, layout.ncsnr, layout.captions) if path.is_file()]
        return fingerprint(
            [fingerprint_files(layout, subjects, splits), *([path.name, fingerprint_file(path)] for path in companions)]
        )

    def open(self, config: DictConfig, parts: Inputs) -> DataLayout:
        """Return the layout."""
        return _training(config)


@dataclass(frozen=True)
class FurtherFiles(Input):
    """The released files of NSD's further sessions that are there; opened, a list of `FurtherTest`."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the files that are read."""
        files = {path for test in _tests(config) for subject in config.data.subjects for path in test.files(subject)}
        return fingerprint_folder(_folder(config), files)

    def open(self, config: DictConfig, parts: Inputs) -> list[FurtherTest]:
        """Return the sessions."""
        return _tests(config)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the files that are not here."""
        files = [path for test in _tests(config) for subject in config.data.subjects for path in test.files(subject)]
        absent = [path for path in files if not path.is_file()]
        return [f"{len(absent)} files, the first {absent[0]} (docs/datasets.md)"] if absent else []


def _training(config: DictConfig) -> DataLayout:
    if config.data.get("training_dir") is None:
        raise UserError("data=nsd_tests needs NSD in the working layout", fix="paths.nsd=FOLDER (docs/datasets.md)")
    return DataLayout(Path(config.data.training_dir).expanduser())


def _folder(config: DictConfig) -> Path:
    if config.data.get("source_dir") is None:
        raise UserError("data=nsd_tests needs NSD's released files", fix="paths.data=FOLDER (docs/datasets.md)")
    return Path(config.data.source_dir).expanduser()


def _tests(config: DictConfig) -> list[FurtherTest]:
    """Return the sessions of which the first subject has betas; a UserError if there is none."""
    folder, subject = _folder(config), config.data.subjects[0]
    known: list[FurtherTest] = [Synthetic(folder), Imagery(folder, config.data.order_in_runs)]
    if found := [test for test in known if test.betas_file(subject).is_file()]:
        return found
    expected = " or ".join(str(test.betas_file(subject).relative_to(folder)) for test in known)
    raise UserError(f"{folder} has no further session of subject {subject}", expected=expected)


class ExtendNsd(Step):
    """Adds NSD-synthetic and NSD-imagery to NSD as test splits."""

    name = "extend_nsd"
    title = "Further test splits of NSD"
    keys = ("data.subjects", "data.order_in_runs")
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return "subj" + "-".join(f"{subject:02d}" for subject in config.data.subjects)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return NSD, and the released files of the further sessions."""
        return {"training": TrainingFiles(), "further": FurtherFiles()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write NSD with the further splits."""
        from mindeye_pl.data.nsd_tests.extension import extend

        report(extend(inputs["training"], list(settings.data.subjects), inputs["further"], work.folder), work)


EXTEND_NSD = ExtendNsd()
