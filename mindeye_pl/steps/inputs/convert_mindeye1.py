"""MindEye1's files of NSD, converted once into MindEye2's layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.data.layout.splits import STANDARD
from mindeye_pl.data.mindeye1.layout import SPLITS, TEST, MindEye1Layout
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint_folder


@dataclass(frozen=True)
class MindEye1Files(Input):
    """The shards and metadata of some subjects; opened, their layout."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of all files that are converted."""
        settings, source = config.data, _source(config)
        source.check(list(settings.subjects))
        files = [path for subject in settings.subjects for _, path in source.shards_of(subject)]
        files += [path for subject in settings.subjects if (path := source.metadata(subject)).is_file()]
        return fingerprint_folder(source.source_dir, [*files, *source.companion_files()])

    def open(self, config: DictConfig, parts: Inputs) -> MindEye1Layout:
        """Return the layout."""
        return _source(config)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the shards that are not here."""
        if config.data.source_dir is None:
            return ["MindEye1's files of NSD (paths.nsd=FOLDER with webdataset_avg_split in it; docs/data.md)"]
        source = _source(config)
        missing = source.missing_shards(config.data.subjects)
        return (
            [f"{len(missing)} shards, the first {missing[0]} ({source.fetch_command(missing[0])})"] if missing else []
        )


def _source(config: DictConfig) -> MindEye1Layout:
    settings = config.data
    if settings.get("shards") is None:
        raise UserError("data are not MindEye1's files", got=f"data={settings.source}", fix="data=nsd_mindeye1")
    if settings.source_dir is None:
        raise UserError("data=nsd_mindeye1 needs MindEye1's files of NSD", fix="paths.nsd=FOLDER (docs/data.md)")
    return MindEye1Layout(Path(settings.source_dir), {split: int(settings.shards[split]) for split in SPLITS})


class ConvertMindEye1(Step):
    """Converts the webdatasets that MindEye1 published."""

    name = "convert_mindeye1"
    title = "Conversion of MindEye1's files"
    keys = ("data.subjects", "data.shards", "data.trials_per_session", "data.repeated_slots", "data.first_trial")
    runtime_keys = ("data.voxel_counts",)
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return "subj" + "".join(f"0{subject}" for subject in config.data.subjects)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return MindEye1's files."""
        return {"source": MindEye1Files()}

    def check(self, config: DictConfig) -> None:
        """Check that nothing is asked of the data that MindEye1's files do not hold."""
        settings = config.data
        if settings.get("test_split", TEST) != TEST:
            what, fix = "MindEye1's files hold one test set", f"data.test_split={TEST}"
            raise UserError(what, got=settings.test_split, expected=TEST, fix=fix)
        if settings.split != STANDARD:
            what = "data.split: MindEye1's files hold a part of NSD's images and trials; other splits need all"
            raise UserError(what, got=settings.split, expected=STANDARD, fix="data=nsd")

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Convert all subjects."""
        from mindeye_pl.data.mindeye1.conversion import convert_mindeye1
        from mindeye_pl.data.mindeye1.index import ConversionSettings

        known = settings.data.voxel_counts
        layout = ConversionSettings(
            trials_per_session=settings.data.trials_per_session,
            repeated_slots=settings.data.repeated_slots,
            first_trial=settings.data.first_trial,
            voxel_counts=None if known is None else {int(subject): int(known[subject]) for subject in known},
        )
        facts = convert_mindeye1(inputs["source"], list(settings.data.subjects), work.folder, layout)
        for subject, found in facts.items():
            console.print(f"{subject}: {', '.join(f'{number:,} {what}' for what, number in found.items())}")
        write_json(work.folder / FACTS, facts)


CONVERT_MINDEYE1 = ConvertMindEye1()
