"""MindEye1's own files of NSD as the data of a run: a step that brings them into MindEye2's layout once."""

import json
from pathlib import Path

from mindeye_pl.console import console
from mindeye_pl.data.mindeye1.layout import SPLITS, TEST, MindEye1Layout
from mindeye_pl.data.nsd.splits import STANDARD
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS, ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.fingerprint import fingerprint_folder

#: The `data.source` that is converted.
NSD_MINDEYE1 = "nsd_mindeye1"


def is_converted(run: Run) -> bool:
    """Whether the run's data are converted from MindEye1's files."""
    return run.config.data.source == NSD_MINDEYE1


def lacking_shards(run: Run) -> list[str]:
    """What is not here of the files that the run converts, with what brings it.

    Raises:
        UserError: for a subject whom MindEye1 did not prepare.
    """
    if run.config.data.source_dir is None:
        return ["MindEye1's files of NSD (paths.nsd=FOLDER, the one that webdataset_avg_split lies in; docs/data.md)"]
    source = _source(run)
    missing = source.missing_shards(run.config.data.subjects)
    return [f"{len(missing)} shards, the first {missing[0]} ({source.fetch_command(missing[0])})"] if missing else []


def _source(run: Run) -> MindEye1Layout:
    settings = run.config.data
    if not is_converted(run):
        raise UserError("data.source is not converted", got=settings.source, fix=f"data={NSD_MINDEYE1}")
    if settings.source_dir is None:
        raise UserError("data=nsd_mindeye1 needs MindEye1's files of NSD", fix="paths.nsd=FOLDER (docs/data.md)")
    return MindEye1Layout(Path(settings.source_dir), {split: int(settings.shards[split]) for split in SPLITS})


def _spec(run: Run) -> ArtifactSpec:
    settings, source = run.config.data, _source(run)
    subjects = list(settings.subjects)
    if settings.test_split != TEST:
        raise UserError(
            "data.test_split: MindEye1's files know one test set",
            got=settings.test_split,
            expected=TEST,
            fix=f"data.test_split={TEST}",
        )
    if settings.split != STANDARD:
        raise UserError(
            "data.split: other splits are of all of NSD's images and trials, and MindEye1's files hold a part",
            got=settings.split,
            expected=STANDARD,
            fix="data=nsd",
        )
    source.check(subjects)
    files = [path for subject in subjects for _, path in source.shards_of(subject)]
    files += [path for subject in subjects if (path := source.metadata(subject)).is_file()]
    by = run.plain("data.subjects", "data.shards", "data.trials_per_session", "data.repeated_slots", "data.first_trial")
    label = "subj" + "".join(f"0{subject}" for subject in subjects)
    inputs = {"source": fingerprint_folder(source.source_dir, [*files, *source.companion_files()])}
    return ArtifactSpec("convert_mindeye1", label, by, inputs)


def _build(run: Run, folder: Path) -> None:
    from mindeye_pl.data.mindeye1.conversion import convert_mindeye1
    from mindeye_pl.data.mindeye1.index import ConversionSettings

    settings = run.config.data
    known = settings.voxel_counts
    facts = convert_mindeye1(
        _source(run),
        list(settings.subjects),
        folder,
        ConversionSettings(
            trials_per_session=settings.trials_per_session,
            repeated_slots=settings.repeated_slots,
            first_trial=settings.first_trial,
            voxel_counts=None if known is None else {int(subject): int(known[subject]) for subject in known},
        ),
    )
    for subject, found in facts.items():
        console.print(f"{subject}: {', '.join(f'{number:,} {what}' for what, number in found.items())}")
    write_text(folder / FACTS, json.dumps(facts))


CONVERT_MINDEYE1 = Step("convert_mindeye1", _spec, lambda run: (), _build)
