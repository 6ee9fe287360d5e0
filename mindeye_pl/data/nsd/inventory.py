"""Inventory of a folder with NSD's own release."""

from pathlib import Path
from typing import get_args

from mindeye_pl.data.inventory import Inventory
from mindeye_pl.data.layout.paths import subject_name
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.release import COCO_SPLITS, NSD_GENERAL, VISUAL_AREAS, BetaVersion, NsdRelease
from mindeye_pl.data.nsd.stimuli import count_stimuli
from mindeye_pl.data.nsd.trials import read_experiment
from mindeye_pl.data.nsd.volumes import open_session, read_volume


def take_inventory(folder: Path) -> Inventory | None:
    """Return the inventory of a folder, None if it has no responses in NSD's own layout.

    Headers, tables and masks are read; of the responses the header of each session.
    """
    versions = [version for version in get_args(BetaVersion) if list(_betas_folders(folder, version))]
    if not versions:
        return None
    release = NsdRelease(folder, versions[0])
    found = Inventory(f"NSD's own release, {versions[0]}", "the data agreement of naturalscenesdataset.org")
    whole = found.add("design", "everything", [release.design], lambda: _design(release))
    whole &= found.add("images", "everything", [release.stimuli], lambda: f"{count_stimuli(release.stimuli):,}")
    subjects = [subject for subject in nsd.SUBJECTS if (folder / _betas_folder(subject, versions[0])).is_dir()]
    ready = [subject for subject in subjects if _add_subject(found, release, subject)]
    captions = [release.stimulus_info, *map(release.coco_captions, COCO_SPLITS)]
    found.add("captions of COCO", "caption scores, Mind Reader (optional)", captions, wanted=len(captions))
    if len(versions) > 1:
        found.remarks.append(f"also here: {', '.join(versions[1:])} (data.beta_version)")
    if not whole:
        missing = next(path for path in (release.design, release.stimuli) if not path.is_file())
        found.commands.append(release.fetch_command(missing))
    elif ready:
        numbers = ",".join(map(str, ready))
        options = f"data=nsd_release data.beta_version={versions[0]} data.subjects=[{numbers}] paths.nsd={folder}"
        found.commands.append(f"python -m mindeye_pl pipeline=prepare_nsd {options}")
    return found


def _betas_folder(subject: int, version: str) -> Path:
    return Path("nsddata_betas", "ppdata", subject_name(subject), "func1pt8mm", version)


def _betas_folders(folder: Path, version: str) -> list[Path]:
    return [path for subject in nsd.SUBJECTS if (path := folder / _betas_folder(subject, version)).is_dir()]


def _design(release: NsdRelease) -> str:
    read_experiment(release.design)
    return ""


def _add_subject(found: Inventory, release: NsdRelease, subject: int) -> bool:
    """Add a subject's files and return whether all that a preparation needs are there."""
    name = subject_name(subject)
    sessions: list[Path] = []

    def responses() -> str:
        sessions.extend(release.betas(subject, session + 1) for session in range(release.num_sessions(subject)))
        return f"{len(sessions)} sessions"

    def betas() -> str:
        shapes = {(opened.shape, opened.num_trials) for opened in map(open_session, sessions)}
        return ", ".join(f"{trials} trials of {' x '.join(map(str, shape))}" for shape, trials in sorted(shapes))

    def mask() -> str:
        return f"{int((read_volume(release.roi(subject, NSD_GENERAL)).values > 0).sum()):,} voxels"

    table = release.responses(subject)
    whole = found.add(f"{name}: responses.tsv", "everything", [table], responses)
    whole &= found.add(f"{name}: betas", "everything", sessions, betas, wanted=max(1, len(sessions)))
    whole &= found.add(f"{name}: {NSD_GENERAL}", "everything", [release.roi(subject, NSD_GENERAL)], mask)
    whole &= found.add(f"{name}: {VISUAL_AREAS}", "scores by region", [release.roi(subject, VISUAL_AREAS)])
    whole &= found.add(f"{name}: ncsnr", "scores over the noise ceiling", [release.ncsnr(subject)])
    if not whole:
        needed = [table, *sessions, release.roi(subject, NSD_GENERAL), release.roi(subject, VISUAL_AREAS)]
        missing = [path for path in (*needed, release.ncsnr(subject)) if not path.is_file()]
        found.commands += [release.fetch_command(missing[0])] if missing else []
    return whole
