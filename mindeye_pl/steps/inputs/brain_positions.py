"""Positions of the tested subject's voxels, and surfaces in the same space."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.brain_mask import BrainMask, read_brain_mask
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.engine.step import MISSING, Input, Inputs
from mindeye_pl.steps.inputs.dataset import OfData, data_steps, user_layout
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file

if TYPE_CHECKING:
    from mindeye_pl.brain_maps.surfaces import Hemisphere

#: Brings nilearn.
INSTALL = "pip install 'mindeye_pl[brain]'"


@dataclass(frozen=True)
class VoxelPositions(OfData):
    """The mask of `data.subject`; opened, a `BrainMask`."""

    subject: int

    def files_fingerprint(self, layout: DataLayout) -> str:
        """Return the mask's fingerprint, `MISSING` where there is none."""
        path = layout.brain_mask(self.subject)
        return fingerprint_file(path) if path.is_file() else MISSING

    def missing(self, config: DictConfig) -> list[str]:
        """Return the mask, if the user's data, or the files that a step converts, have none."""
        if not data_steps(config):
            layout = user_layout(config)
        elif (folder := config.data.get("source_dir")) is not None:
            layout = DataLayout(Path(folder))
        else:
            return []
        path = layout.brain_mask(self.subject)
        return [] if path.is_file() else [f"{path}, the positions of the voxels (docs/brain_maps.md)"]

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the mask of the user's own data."""
        if not data_steps(config):
            self._read(self.layout(config, parts))

    def open(self, config: DictConfig, parts: Inputs) -> BrainMask:
        """Return the positions."""
        return self._read(self.layout(config, parts))

    def _read(self, layout: DataLayout) -> BrainMask:
        return read_brain_mask(layout.brain_mask(self.subject), betas_shape(layout, self.subject)[1])


@dataclass(frozen=True)
class Surfaces(Input):
    """The surfaces of `brain_maps.surfaces`, drawn by nilearn; opened, its hemispheres, none where it is null."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the files, or the name of surfaces that nilearn ships."""
        wanted = config.brain_maps.surfaces
        if wanted is None or isinstance(wanted, str):
            return str(wanted)
        paths = [Path(path).expanduser() for path in wanted]
        return fingerprint([fingerprint_file(path) if path.is_file() else MISSING for path in paths])

    def missing(self, config: DictConfig) -> list[str]:
        """Return nilearn, if it is not installed."""
        return [] if find_spec("nilearn") else [f"nilearn ({INSTALL})"]

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the user's files."""
        self.open(config, parts)

    def open(self, config: DictConfig, parts: Inputs) -> Sequence["Hemisphere"]:
        """Return the hemispheres."""
        from mindeye_pl.brain_maps.surfaces import fsaverage5, own_surfaces

        wanted = config.brain_maps.surfaces
        if wanted is None:
            return ()
        return fsaverage5() if isinstance(wanted, str) else own_surfaces([Path(path).expanduser() for path in wanted])
