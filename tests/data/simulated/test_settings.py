import json
from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import compose_config
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.simulated.world import SimulationSettings
from mindeye_pl.errors import UserError
from tests.data.simulated.small_world import SMALL


@pytest.mark.parametrize("name", ["laptop", "tiny", "fullsize", "photos"])
def test_simulation_configs_are_valid(name):
    config = OmegaConf.load(conf_dir() / "simulation" / f"{name}.yaml")
    plain: SimulationSettings = instantiate(config)
    assert plain == instantiate(config, _convert_="all")
    assert plain.name == name
    assert type(plain.voxel_counts) is dict
    assert all(type(subject) is int for subject in plain.voxel_counts)
    json.dumps(asdict(plain))


def test_fullsize_has_nsds_numbers():
    settings: SimulationSettings = instantiate(OmegaConf.load(conf_dir() / "simulation" / "fullsize.yaml"))
    assert isinstance(settings.num_sessions, Mapping)
    assert dict(settings.voxel_counts) == nsd.VOXEL_COUNTS
    assert dict(settings.num_sessions) == nsd.SESSION_COUNTS
    assert settings.num_stimuli == nsd.NUM_STIMULI
    assert settings.stimuli_per_subject == nsd.STIMULI_PER_SUBJECT
    assert settings.image_size == nsd.IMAGE_SIZE
    assert settings.num_shared == nsd.NUM_SHARED_STIMULI


@pytest.mark.parametrize(
    "wrong",
    [
        {"voxel_counts": {}},
        {"voxel_counts": {9: 10}, "num_sessions": 3},
        {"num_sessions": {1: 8}},
        {"trials_per_session": 151},
        {"num_shared": 0},
        {"num_shared": 399},
    ],
    ids=str,
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(UserError, match=r"simulation\."):
        replace(SMALL, **wrong)


def test_some_of_the_subjects() -> None:
    config = compose_config(["simulation=fullsize", "simulation.subjects=[1,3]"])
    assert config.data.subjects == [1, 3]
    settings: SimulationSettings = instantiate(config.simulation, _convert_="all")
    assert settings.subjects == (1, 3)
    assert settings.voxel_counts == {1: 15724, 3: 15226}
    assert settings.num_sessions == {1: 40, 3: 32}
    assert compose_config(["simulation=tiny"]).data.subjects == [1, 2, 5, 7]
    with pytest.raises(UserError, match=r"simulation\.subjects names an unknown subject .got: 4; expected: some of"):
        replace(settings, subjects=[4])
