"""NSD's own release, prepared once in the working layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.data.nsd.inspection import PreparationSettings, files_below, inspect_release, own_masks
from mindeye_pl.data.nsd.masks import parse_mask
from mindeye_pl.data.nsd.release import NSD_GENERAL, NsdRelease
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file, fingerprint_folder


@dataclass(frozen=True)
class NsdFiles(Input):
    """All files of NSD's release that are read, and the user's own masks; opened, the release."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the files; masks are identified by their content and not by their paths."""
        release, settings, subjects = _release(config), preparation_settings(config.data), list(config.data.subjects)
        names = [name for name in settings.mask if not name.endswith((".nii", ".nii.gz"))]
        below = fingerprint_folder(release.root, set(files_below(release, subjects, settings)))
        return fingerprint([below, names, *map(fingerprint_file, own_masks(subjects, settings))])

    def open(self, config: DictConfig, parts: Inputs) -> NsdRelease:
        """Return the release."""
        return _release(config)

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check all tables, masks and headers."""
        inspect_release(_release(config), list(config.data.subjects), preparation_settings(config.data))

    def missing(self, config: DictConfig) -> list[str]:
        """Return the folder, if it is not there."""
        folder = config.data.get("source_dir")
        if folder and Path(folder).is_dir():
            return []
        return [f"the folder of NSD's release {folder} (paths.nsd=FOLDER; docs/tutorials/nsd_from_scratch.md)"]


def _release(config: DictConfig) -> NsdRelease:
    settings = config.data
    if settings.get("beta_version") is None:
        raise UserError("data are not NSD's release", got=f"data={settings.source}", fix="data=nsd_release")
    if settings.source_dir is None:
        fix = "paths.nsd=FOLDER (docs/tutorials/nsd_from_scratch.md)"
        raise UserError("data=nsd_release needs the files of NSD's release", fix=fix)
    return NsdRelease(Path(settings.source_dir), settings.beta_version)


def preparation_settings(data: Any) -> PreparationSettings:
    """Return the options of the preparation in a node `data`; raises a UserError for one that is null."""
    for name, default in (("zscore", "exclude_shared1000"), ("mask", NSD_GENERAL)):
        if data[name] is None:
            raise UserError(f"data.{name} is null", fix=f"data.{name}={default}")
    return PreparationSettings(
        zscore=data.zscore,
        zscore_sessions=tuple(data.zscore_sessions or ()),
        mask=parse_mask(data.mask),
        max_sessions=data.max_sessions,
        trials_per_session=data.trials_per_session,
    )


class PrepareNsd(Step):
    """Prepares the files that NSD's authors publish."""

    name = "prepare_nsd"
    title = "Preparation of NSD's release"
    keys = (
        *("data.subjects", "data.beta_version", "data.zscore", "data.zscore_sessions", "data.max_sessions"),
        "data.trials_per_session",
    )
    runtime_keys = ("data.mask", "data.num_workers")  # masks are identified by their content
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return "subj" + "".join(f"{subject:02d}" for subject in config.data.subjects)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return NSD's files."""
        return {"release": NsdFiles()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Prepare all subjects and images."""
        from mindeye_pl.data.nsd.preparation import prepare_nsd
        from mindeye_pl.data.parallel import available_cores

        data = settings.data
        facts = prepare_nsd(
            inputs["release"],
            list(data.subjects),
            work.folder,
            preparation_settings(data),
            workers=min(data.num_workers, available_cores()),
        )
        for subject, found in facts.items():
            if isinstance(found, dict):
                console.print(f"{subject}: {', '.join(f'{number:,} {what}' for what, number in found.items())}")
        write_json(work.folder / FACTS, facts)


PREPARE_NSD = PrepareNsd()
