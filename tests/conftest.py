from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mindeye_pl.data.simulated import SimulationSettings, simulate_nsd

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="session")
def tiny_settings() -> SimulationSettings:
    """The settings of `simulation=tiny`."""
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "simulation" / "tiny.yaml"))
    assert isinstance(settings, dict)
    assert settings.pop("_target_") == "mindeye_pl.data.simulated.SimulationSettings"
    return SimulationSettings(**settings)


@pytest.fixture(scope="session")
def tiny_nsd(tiny_settings: SimulationSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny simulated NSD, made once for each testing process and not to be changed."""
    root = tmp_path_factory.mktemp("tiny_nsd")
    simulate_nsd(tiny_settings, root, workers=1, progress=False)
    return root
