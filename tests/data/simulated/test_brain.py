from dataclasses import replace

import numpy as np
import pytest

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.simulated.betas import TrialNoise, zscore
from mindeye_pl.data.simulated.brain import Percepts, SimulatedBrain
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scenes import draw_scene
from mindeye_pl.data.simulated.visual_features import (
    GRID_SIZE,
    NUM_CHANNELS,
    NUM_COLOUR_FEATURES,
    NUM_FEATURES,
    ORIENTATIONS,
    RETINA_SIZE,
    SCALES,
    visual_features,
)
from mindeye_pl.data.simulated.world import perceive

NUM_VOXELS = 300


@pytest.fixture(scope="module")
def percepts() -> Percepts:
    return perceive([draw_scene(np.random.default_rng((1, seed))) for seed in range(120)])


@pytest.fixture(scope="module")
def brain(percepts) -> SimulatedBrain:
    return SimulatedBrain.sample(np.random.default_rng(0), NUM_VOXELS, percepts, noise_level=0.5, noise_spread=0.4)


def grating(scale: float, orientation: float, phase: float = 0.0) -> np.ndarray:
    axis = np.arange(RETINA_SIZE) / RETINA_SIZE
    along = axis * np.cos(orientation) + axis[:, None] * np.sin(orientation)
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * scale * along + phase)
    return np.repeat(wave[None], 3, 0).astype(np.float32)


def energies(image: np.ndarray) -> np.ndarray:
    """Return energies (scales, orientations) in the middle of the image."""
    maps = visual_features(image[None])[0].reshape(NUM_FEATURES, GRID_SIZE, GRID_SIZE)
    return maps[NUM_COLOUR_FEATURES:, 6:10, 6:10].mean((1, 2)).reshape(len(SCALES), len(ORIENTATIONS))


@pytest.mark.parametrize("scale", range(len(SCALES)))
@pytest.mark.parametrize("orientation", range(len(ORIENTATIONS)))
def test_energy_is_tuned_to_scale_and_orientation(scale, orientation):
    values = energies(grating(SCALES[scale], ORIENTATIONS[orientation]))
    assert np.unravel_index(values.argmax(), values.shape) == (scale, orientation)
    shifted = energies(grating(SCALES[scale], ORIENTATIONS[orientation], phase=2.0))
    assert shifted[scale, orientation] == pytest.approx(values[scale, orientation], rel=0.1)  # for any phase


def test_colour_features_of_a_red_half():
    image = np.zeros((3, RETINA_SIZE, RETINA_SIZE), np.float32)
    image[0, :, :32] = 1  # red on the left, black on the right
    maps = visual_features(image[None])[0].reshape(NUM_FEATURES, GRID_SIZE, GRID_SIZE)
    np.testing.assert_allclose(maps[:3, :, 0], np.array([[0.3], [1.0], [-0.5]]).repeat(GRID_SIZE, 1), rtol=1e-6)
    np.testing.assert_allclose(maps[:3, :, -1], 0, atol=1e-6)
    assert maps[3].max(0).argmax() in (7, 8)  # the edge is in the middle


def test_flat_image_has_no_energy():
    flat = np.full((1, 3, RETINA_SIZE, RETINA_SIZE), 0.7, np.float32)
    assert np.abs(visual_features(flat)[0, 3:]).max() < 1e-4  # the frame is not an edge


def test_responses_equal_a_loop(brain, percepts):
    seen = Percepts(percepts.visual[:4], percepts.semantic[:4])
    expected = np.empty((4, NUM_VOXELS))
    for image in range(4):
        for voxel in range(NUM_VOXELS):
            pooled = percepts.visual[image].astype(float) @ brain.fields[:, voxel]
            drive = pooled @ brain.visual_tuning[:, voxel] + brain.offset[voxel]
            drive += percepts.semantic[image].astype(float) @ brain.semantic_tuning[:, voxel]
            steep = 2 * brain.gain[voxel]
            expected[image, voxel] = np.log1p(np.exp(steep * (drive - brain.threshold[voxel]))) / 2
    responses = brain.responses(seen)
    assert responses.dtype == np.float32
    np.testing.assert_allclose(responses, expected, rtol=1e-3, atol=1e-4)


def test_response_depends_only_on_the_receptive_field(brain, percepts):
    """Cells outside the receptive field do not change the response."""
    voxel = int(np.argmin(brain.field_sizes + 10 * brain.semantic_fraction))
    outside = brain.fields[:, voxel] < 1e-12
    assert outside.mean() > 0.3
    changed = percepts.visual[:5].copy()
    changed[:, :, outside] += 3
    before, after = (
        brain.responses(Percepts(visual, percepts.semantic[:5]))[:, voxel] for visual in (percepts.visual[:5], changed)
    )
    np.testing.assert_allclose(before, after, rtol=1e-5)


def test_regions(brain):
    regions = brain.regions()
    assert set(regions) == set(nsd.ROIS)
    areas = [regions[name] for name in nsd.ROIS if name != "nsd_general"]
    assert regions["nsd_general"].all()
    assert (np.sum(areas, axis=0) == 1).all()  # each voxel is in one area
    sizes = [brain.field_sizes[regions[name]].mean() for name in ("V1", "V2", "V3", "V4")]
    assert sizes == sorted(sizes)
    assert (brain.semantic_fraction[regions["higher_vis"]] > 0.5).all()
    assert min(mask.sum() for mask in areas) > 5


def test_figure_gain_scales_the_change_by_objects():
    scenes = [draw_scene(np.random.default_rng((2, seed))) for seed in range(4)]
    ground = perceive([replace(scene, objects=()) for scene in scenes]).visual
    plain, doubled = perceive(scenes).visual, perceive(scenes, figure_gain=2.0).visual
    np.testing.assert_allclose(doubled - ground, 2 * (plain - ground), atol=1e-5)
    colour = slice(NUM_CHANNELS)  # the filters of the other maps have a large support
    untouched = np.abs(plain - ground)[:, colour].max(1) == 0  # cells that no object covers
    assert 0 < untouched.mean() < 1
    for kind in range(NUM_CHANNELS):
        np.testing.assert_array_equal(doubled[:, kind][untouched], ground[:, kind][untouched])


def test_semantics_change_mainly_higher_voxels(brain, percepts):
    shuffled = Percepts(percepts.visual, percepts.semantic[::-1])
    change = (brain.responses(shuffled) - brain.responses(percepts)).std(0) / brain.responses(percepts).std(0)
    regions = brain.regions()
    assert change[regions["higher_vis"]].min() > change[regions["V1"]].mean()


def test_subjects_have_different_voxels(percepts):
    first, second = (
        SimulatedBrain.sample(np.random.default_rng(seed), 50, percepts, noise_level=0.5, noise_spread=0.4)
        for seed in (0, 1)
    )
    assert not np.allclose(first.fields, second.fields)


def test_trial_noise_has_the_stated_variance():
    ratio = np.linspace(0.2, 2, 60).astype(np.float32)
    noise = TrialNoise.sample(np.random.default_rng(0), ratio, correlated=0.3, drift=0.0)
    added = noise.session(np.random.default_rng(1), np.zeros((20_000, 60), np.float32))
    np.testing.assert_allclose(added.std(0), ratio * noise.signal_scale, rtol=0.03)
    np.testing.assert_allclose(noise.signal_scale**2 * (1 + ratio**2), 1, rtol=1e-5)
    shared = np.corrcoef(added.T) - np.eye(60)
    independent = TrialNoise.sample(np.random.default_rng(0), ratio, correlated=0.0, drift=0.0)
    alone = np.corrcoef(independent.session(np.random.default_rng(1), np.zeros((20_000, 60), np.float32)).T) - np.eye(
        60
    )
    assert np.abs(shared).mean() > 5 * np.abs(alone).mean()


def test_zscore_is_fitted_on_the_given_trials():
    betas = np.random.default_rng(0).normal(3, 2, (40, 5)).astype(np.float32)
    fit_on = np.arange(40) < 25
    scaled = zscore(betas, fit_on)
    np.testing.assert_allclose(scaled[fit_on].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[fit_on].std(0), 1, atol=1e-5)
    np.testing.assert_allclose(scaled, (betas - betas[:25].mean(0)) / betas[:25].std(0), rtol=1e-4, atol=1e-5)


def test_perceive_renders_at_retina_size(percepts):
    scene = draw_scene(np.random.default_rng((1, 0)))
    np.testing.assert_array_equal(percepts.visual[:1], visual_features(render(scene, RETINA_SIZE)[None]))
