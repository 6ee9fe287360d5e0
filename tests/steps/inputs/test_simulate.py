"""Photographs as an input of the simulation: identified by content, and refused in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.data.simulated.cutouts import find_cutouts, find_photographs
from mindeye_pl.engine.step import MISSING, Inputs
from mindeye_pl.steps.inputs.simulate import SIMULATE, Photographs
from tests.conftest import CommandLine
from tests.data.simulated.small_cutouts import disc, write_cutouts, write_photographs

PHOTOGRAPHS = Photographs()


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    cutouts = str(write_cutouts(tmp_path / "cutouts"))
    return OmegaConf.create({"simulation": {"cutouts": cutouts, "excluded": ["toys"], "backgrounds": None}})


def test_only_a_world_of_photographs_has_the_input(config: DictConfig) -> None:
    assert SIMULATE.inputs(config) == {"photographs": PHOTOGRAPHS}
    assert SIMULATE.inputs(OmegaConf.create({"simulation": {"name": "tiny"}})) == {}
    assert PHOTOGRAPHS.missing(config) == []
    assert not PHOTOGRAPHS.is_simulated(config)
    PHOTOGRAPHS.check(config, Inputs({}, lambda _: None))


def test_the_fingerprint_is_of_the_content(config: DictConfig, tmp_path: Path) -> None:
    first = PHOTOGRAPHS.fingerprint(config)
    moved = OmegaConf.merge(config, {"simulation": {"cutouts": str(tmp_path / "moved")}})
    assert isinstance(moved, DictConfig)
    shutil.copytree(tmp_path / "cutouts", tmp_path / "moved")
    assert PHOTOGRAPHS.fingerprint(moved) == first
    (tmp_path / "moved/toys").mkdir()
    disc((1, 2, 3)).save(tmp_path / "moved/toys/ball.png")  # in an excluded folder
    assert PHOTOGRAPHS.fingerprint(moved) == first
    (tmp_path / "moved/animals/dog.txt").write_text("A wolf.")
    second = PHOTOGRAPHS.fingerprint(moved)
    disc((1, 2, 3)).save(tmp_path / "moved/animals/dog.png")
    third = PHOTOGRAPHS.fingerprint(moved)
    moved.simulation.backgrounds = str(write_photographs(tmp_path / "backgrounds"))
    assert len({first, second, third, PHOTOGRAPHS.fingerprint(moved)}) == 4


def test_missing_folders_are_named(config: DictConfig, tmp_path: Path) -> None:
    config.simulation.backgrounds = str(tmp_path / "nowhere")
    (line,) = PHOTOGRAPHS.missing(config)
    assert "backgrounds in" in line
    assert PHOTOGRAPHS.fingerprint(config) == MISSING
    config.simulation.cutouts = str(tmp_path / "nowhere")
    assert "apt install tuxpaint-stamps-default" in PHOTOGRAPHS.missing(config)[0]


def _no_cutouts(root: Path) -> None:
    shutil.rmtree(root)


def _empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _one_category(root: Path) -> None:
    shutil.rmtree(root / "animals")


def _broken(root: Path) -> None:
    (root / "food/apple_2.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def _half(root: Path) -> None:
    path = root / "food/apple_2.png"
    path.write_bytes(path.read_bytes()[:150])


def _binary_text(root: Path) -> None:
    (root / "food/apple_2.txt").write_bytes(b"\xff\x00")


def _loop(root: Path) -> None:
    (root / "food/loop.png").symlink_to(root / "food/loop.png")


def _no_backgrounds(root: Path) -> None:
    (root.parent / "backgrounds").rename(root.parent / "elsewhere")


def _empty_backgrounds(root: Path) -> None:
    _empty(root.parent / "backgrounds")


def _background_loop(root: Path) -> None:
    backgrounds = root.parent / "backgrounds"
    (backgrounds / "loop.jpg").symlink_to(backgrounds / "loop.jpg")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_no_cutouts, "apt install tuxpaint-stamps-default"),
        (_empty, "two categories"),
        (_one_category, "one category, food"),
        (_broken, "apple_2.png is damaged or not an image"),
        (_half, "apple_2.png is damaged or not an image"),
        (_binary_text, "apple_2.txt cannot be read"),
        (_loop, "loop.png"),
        (_background_loop, "loop.jpg"),
        (_no_backgrounds, "backgrounds in"),
        (_empty_backgrounds, "has no photographs"),
    ],
)
def test_unfit_photographs_end_in_one_line(
    harm: Callable[[Path], None], says: str, config: DictConfig, cli: CommandLine
) -> None:
    root = Path(config.simulation.cutouts)
    backgrounds = write_photographs(root.parent / "backgrounds")
    harm(root)
    small = ["simulation.voxel_counts={1: 6}", "simulation.num_sessions=1", "simulation.trials_per_session=24"]
    more = ["simulation.num_shared=3", "simulation.image_size=16", "logger=none", "scale=tiny"]
    find_cutouts.cache_clear()
    find_photographs.cache_clear()
    folders = [f"simulation.cutouts={root}", f"simulation.backgrounds={backgrounds}"]
    cli.refuses("pipeline=simulate", "simulation=photos", *folders, *small, *more, says=(says,))
