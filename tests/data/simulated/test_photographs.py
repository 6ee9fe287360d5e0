"""Scenes of photographs: what is drawn, how it looks, what it is called, and the world made of them."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.simulated.photographs import (
    PhotographedBackground,
    PhotographedObject,
    PhotographedScenes,
    PhotographSettings,
)
from mindeye_pl.data.simulated.scenes import RELATIONS, SECOND_OBJECT
from mindeye_pl.data.simulated.world import simulate_nsd
from tests.data.simulated.small_cutouts import COLOURS, write_cutouts, write_photographs

SIZE = 48


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PhotographedScenes:
    return PhotographedScenes(str(write_cutouts(tmp_path_factory.mktemp("photographs") / "cutouts")))


@pytest.fixture(scope="module")
def scenes(source: PhotographedScenes) -> list:
    return [source.draw(np.random.default_rng(seed)) for seed in range(200)]


def test_scenes_are_of_the_cutouts(source: PhotographedScenes, scenes: list) -> None:
    assert {each.cutout.path.name for scene in scenes for each in scene.objects} == {
        Path(name).name for name in COLOURS
    }
    assert {each.category for scene in scenes for each in scene.objects} == set(source.groups)
    assert source.groups == {"animals/birds": "animals", "animals": "animals", "food": "food"}
    pairs = [scene for scene in scenes if len(scene.objects) == 2]
    assert abs(len(pairs) / len(scenes) - SECOND_OBJECT) < 0.12
    for scene in scenes:
        assert len({each.category for each in scene.objects}) == len(scene.objects)
        assert (scene.relation in RELATIONS) == (len(scene.objects) == 2)
        assert all(max(map(abs, each.centre)) <= 1 - each.radius + 1e-6 for each in scene.objects)


def test_a_scene_is_determined_by_the_generator(source: PhotographedScenes, scenes: list) -> None:
    assert source.draw(np.random.default_rng(7)) == scenes[7]
    assert pickle.loads(pickle.dumps(source)) == source
    assert hash(source) == hash(pickle.loads(pickle.dumps(source)))


def test_images_are_valid_and_show_the_cutout(source: PhotographedScenes, scenes: list) -> None:
    for scene in scenes[:20]:
        image = source.render(scene, SIZE)
        assert image.shape == (3, SIZE, SIZE)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        main = scene.objects[0]
        x, y = (min(SIZE - 1, int(SIZE * (1 + at) / 2)) for at in main.centre)
        colour = np.array(COLOURS[next(name for name in COLOURS if name.endswith(main.cutout.path.name))]) / 255
        np.testing.assert_allclose(image[:, y, x], colour, atol=0.02)
    ground = source.render(replace(scenes[0], objects=()), SIZE)
    assert 0.1 < (np.abs(source.render(scenes[0], SIZE) - ground).max(0) > 0.02).mean() < 0.8


def test_size_tilt_and_flip(source: PhotographedScenes, scenes: list) -> None:
    scene = scenes[0]
    cutout = next(each.cutout for one in scenes for each in one.objects if each.category == "food")
    middle = PhotographedObject(cutout, 0.5, (0.0, 0.0), 0.0, is_flipped=False)
    ground = source.render(replace(scene, objects=()), SIZE)

    def region(each: PhotographedObject) -> np.ndarray:
        return np.abs(source.render(replace(scene, objects=(each,)), SIZE) - ground).max(0) > 0.02

    rows, columns = np.nonzero(region(middle))
    assert np.ptp(columns) + 1 == pytest.approx(SIZE / 2, abs=1)  # twice the radius, in half images
    assert np.ptp(rows) + 1 == pytest.approx(SIZE / 2 * 30 / 40, abs=1)
    assert not np.array_equal(region(replace(middle, angle=15.0)), region(middle))
    np.testing.assert_array_equal(region(replace(middle, is_flipped=True)), region(middle)[:, ::-1])
    assert region(replace(middle, centre=(0.9, 0.9))).any()  # cut off by the edge


def test_captions_name_the_objects(source: PhotographedScenes, scenes: list) -> None:
    words = {"crow.png": "a crow", "dog.png": "a big brown dog", "apple_2.png": "an apple"}
    for scene in scenes[:40]:
        full, named = source.captions(scene)
        for each in scene.objects:
            assert words[each.cutout.path.name] in full.lower()
            assert each.cutout.name in named.lower()
        assert scene.relation in full
        assert all(text.endswith(".") and text[0].isupper() and "..," not in text for text in (full, named))
        assert not any(text.lower().startswith("a apple") for text in (full, named))


def test_photographs_as_backgrounds(source: PhotographedScenes, tmp_path: Path) -> None:
    shown = replace(source, backgrounds=str(write_photographs(tmp_path / "backgrounds")))
    scenes = [shown.draw(np.random.default_rng(seed)) for seed in range(30)]
    assert all(isinstance(scene.background, PhotographedBackground) for scene in scenes)
    assert {scene.background.is_flipped for scene in scenes} == {True, False}
    # The photograph rises from left to right, from 0 to 89 of 255.
    whole = replace(
        scenes[0],
        objects=(),
        background=PhotographedBackground(tmp_path / "backgrounds/sea_shore.png", 1.0, (0, 0), False),
    )
    image = shown.render(whole, 30)
    assert image.shape == (3, 30, 30)
    np.testing.assert_allclose(image[0, 15, [2, 27]], np.array([4.5, 54.5]) / 255, atol=0.01)
    turned = shown.render(replace(whole, background=replace(whole.background, is_flipped=True)), 30)
    np.testing.assert_allclose(turned, image[:, :, ::-1], atol=0.005)
    assert shown.captions(replace(scenes[0], background=whole.background))[0].endswith(", in front of sea shore.")


def test_the_world_of_photographs(source: PhotographedScenes, tmp_path: Path) -> None:
    config = OmegaConf.load(conf_dir() / "simulation" / "photos.yaml")
    small = {
        "cutouts": source.cutouts,
        "voxel_counts": {1: 12, 2: 10},
        "num_sessions": 1,
        "trials_per_session": 24,
        "num_shared": 3,
        "image_size": 16,
    }
    settings: PhotographSettings = instantiate(OmegaConf.merge(config, OmegaConf.create(small)))
    assert settings.source == PhotographedScenes(source.cutouts, tuple(config.excluded))
    for name in ("one", "two"):
        simulate_nsd(settings, tmp_path / name, workers=0, progress=False)
    layouts = [DataLayout(tmp_path / name) for name in ("one", "two")]
    betas, images = [], []
    for layout in layouts:
        with h5py.File(layout.betas(1)) as file, h5py.File(layout.stimuli) as stimuli:
            betas.append(file["betas"][:])
            images.append(stimuli["images"][:])
    np.testing.assert_array_equal(*betas)
    np.testing.assert_array_equal(*images)
    assert np.isfinite(betas[0]).all()
    assert images[0].shape == (settings.num_stimuli, 3, 16, 16)
    assert len(json.loads(layouts[0].captions.read_text())) == settings.num_stimuli
    assert json.loads(layouts[0].simulation.read_text())["settings"] == json.loads(json.dumps(asdict(settings)))
