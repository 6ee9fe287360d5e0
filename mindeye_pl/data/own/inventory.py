"""Inventory of a laboratory's own recordings: BIDS names, betas, events and images."""

from pathlib import Path

from mindeye_pl.data.inventory import Inventory
from mindeye_pl.data.own.folder import StudyFolder, SubjectFiles
from mindeye_pl.data.own.study import plan_study


def take_inventory(folder: Path, image_column: str = "stim_file") -> Inventory | None:
    """Return the inventory of a folder, None if no betas have a subject's name; no beta and no pixel is read."""
    study = StudyFolder(folder)
    if not any(path.name.startswith("sub-") for path in folder.iterdir()) or not study.subject_labels():
        return None
    found = Inventory("own recordings in BIDS names", "your participants' consent and your institution's rules")
    subjects: tuple[SubjectFiles, ...] = ()
    with found.examining("files", "everything"):
        subjects = tuple(study.subjects())
    for subject in subjects:
        name = f"sub-{subject.label}"
        betas = [recording.betas for recording in subject.recordings]
        events = [path for recording in subject.recordings for path in recording.events]
        found.add(f"{name}: betas", "everything", betas)
        found.add(f"{name}: events", "everything", events)
        found.add(f"{name}: mask", "voxels and maps (optional)", [subject.mask] if subject.mask else [])
    with found.examining("images", "everything"):
        found.add("images", "everything", [path for path in study.image_folder().rglob("*") if path.is_file()])
    if all(part.state != "damaged" for part in found.parts):
        _plan(found, study, image_column)
    return found


def _plan(found: Inventory, study: StudyFolder, image_column: str) -> None:
    """Check that the files fit each other; the first mistake is a damaged part."""
    planned = None
    with found.examining("trials", "everything"):
        planned = plan_study(study, image_column=image_column)
    if planned is None:
        return
    for subject in planned.subjects:
        trials = f"{len(subject.images):,} trials of {len(set(subject.images)):,} images"
        counts = f"{len(subject.sessions)} sessions, {trials}, {len(subject.voxels):,} voxels"
        found.remarks.append(f"{subject.name}: {counts}")
    found.commands.append(f"python -m mindeye_pl +experiment=finetune_own own.path={study.path}")
