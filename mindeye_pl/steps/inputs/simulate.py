"""The simulated NSD, written in the file layout of the real one."""

import shutil
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, Inputs, Step, Work


class Simulate(Step):
    """Simulates subjects, stimuli and responses."""

    name = "simulate"
    title = "Simulation"
    keys = ("simulation",)
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the size of the world and its seed."""
        return f"{config.simulation.name}-seed{config.simulation.seed}"

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
