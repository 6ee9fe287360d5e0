"""The simulated NSD, written in the file layout of the real one."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from mindeye_pl.data.simulated.cutouts import (
    cutout_files,
    find_cutouts,
    find_photographs,
    missing_cutouts,
    missing_photographs,
    photograph_files,
)
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, MISSING, Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_folder


@dataclass(frozen=True)
class Photographs(Input):
    """Cut-outs and backgrounds of a world of photographs, `simulation.cutouts`; opened, the cut-outs' folder."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of cut-outs, their descriptions and backgrounds; `MISSING` without any."""
        if self.missing(config):
            return MISSING
        root, backgrounds = Path(config.simulation.cutouts).expanduser(), config.simulation.backgrounds
        cutouts = cutout_files(root, tuple(config.simulation.excluded))
        texts = [text for path in cutouts if (text := path.with_suffix(".txt")).is_file()]
        found = [_fingerprint(root, cutouts + texts)]
        if backgrounds is not None:
            root = Path(backgrounds).expanduser()
            found.append(_fingerprint(root, photograph_files(root)))
        return fingerprint(found)

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        """Return the folder of the cut-outs."""
        return Path(config.simulation.cutouts)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the cut-outs and the backgrounds whose folders are not there."""
        cutouts, backgrounds = config.simulation.cutouts, config.simulation.backgrounds
        found = [] if _is_folder(cutouts) else [missing_cutouts(cutouts)]
        return found if backgrounds is None or _is_folder(backgrounds) else [*found, missing_photographs(backgrounds)]

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the headers of all files, and that there are enough."""
        find_cutouts(config.simulation.cutouts, tuple(config.simulation.excluded))
        if config.simulation.backgrounds is not None:
            find_photographs(config.simulation.backgrounds)

    def is_simulated(self, config: DictConfig) -> bool:
        """Return False: the photographs are the user's."""
        return False


def _is_folder(path: str) -> bool:
    return Path(path).expanduser().is_dir()


def _fingerprint(root: Path, files: Iterable[Path]) -> str:
    try:
        return fingerprint_folder(root, files)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read", got=error.strerror, fix="remove the file") from error


class Simulate(Step):
    """Simulates subjects, stimuli and responses."""

    name = "simulate"
    title = "Simulation"
    keys = ("simulation",)
    runtime_keys = ("simulation.cutouts", "simulation.backgrounds")  # folders, identified by their content
    version = 2  # with the positions of the voxels
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the size of the world and its seed."""
        return f"{config.simulation.name}-seed{config.simulation.seed}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the photographs, if the world shows any."""
        return {"photographs": Photographs()} if "cutouts" in config.simulation else {}

    def is_simulated(self, config: DictConfig) -> bool:
        """Return True."""
        return True

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write the dataset; files of a killed build are removed, since the whole takes seconds."""
        from mindeye_pl.data.simulated.world import simulate_nsd

        for path in work.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        world: Any = instantiate(settings.simulation, _convert_="all")
        simulate_nsd(world, work.folder)


SIMULATE = Simulate()
