"""Synthetic trials of a new subject: where their images and their noise come from, and a training with them."""

import numpy as np
import pytest

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare
from mindeye_pl.metrics.encoding import RidgeEncoder, held_out_residuals
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.synthetic_trials import SYNTHESISE_TRIALS, draw_noise, read_synthetic
from mindeye_pl.steps.brain.trials import subject_trials, trial_data
from mindeye_pl.steps.inputs.splits import Split
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "adaptation=[synthetic_trials]")


def test_no_image_is_trained_on_validated_or_tested(cli: CommandLine) -> None:
    overrides = (*COMMAND, f"paths.outputs={cli.outputs}", "data.validation_images=4")
    run = Run(compose_config(list(overrides)), list(overrides))
    folder = run.make(SYNTHESISE_TRIALS).folder
    synthetic = read_synthetic(folder, 0.5)
    inputs = SYNTHESISE_TRIALS.inputs(run.config)
    own, others = (run.open(inputs[name]) for name in ("own", "others"))
    settings = declare(run.resolved, (*SYNTHESISE_TRIALS.keys, *SYNTHESISE_TRIALS.runtime_keys))
    data = subject_trials(own, settings, run.open(Split()))
    ids = synthetic.stimulus_ids
    assert synthetic.betas.shape == (len(ids), data.voxel_counts[1])
    assert len(np.unique(ids)) == len(ids) > 0
    for used in (data.train_trials, data.validation_trials):
        assert not np.isin(ids, used[0].stimulus_ids).any()
    assert not np.isin(ids, own.test_ids(1, settings.data.test_split, None)).any()
    shown = trial_data(others, settings, None, subjects=list(settings.pretrain.subjects), num_sessions="all")
    trained = np.concatenate([trials.stimulus_ids for trials in shown.train_trials])
    held_out = np.concatenate([trials.stimulus_ids for trials in shown.validation_trials])
    assert np.isin(ids, trained).all()
    assert not np.isin(ids, held_out).any()
    assert np.isfinite(synthetic.betas).all()


def test_they_are_an_input_only_where_they_are_asked_for() -> None:
    asked, off = (compose_config([*COMMAND, *more]) for more in ((), ("finetune.synthetic_fraction=0",)))
    assert "synthetic" in FINETUNE.inputs(asked)
    assert "synthetic" not in FINETUNE.inputs(off)


def test_a_resumed_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    more = ("finetune.start=scratch", "pipeline.steps=[finetune]")
    where = {"step": "finetune", "file": "model.safetensors", "stops": (1,), "epochs": 2}
    cli.ends_in_the_same_weights(*COMMAND, *more, **where)


@pytest.fixture(scope="module")
def fitted() -> dict[str, np.ndarray]:
    """Trials of two correlated voxels and one that nothing drives, with noise of a known size."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 6)).astype(np.float32)
    image = np.repeat(np.arange(400), 2)
    signal = features @ np.stack([rng.standard_normal(6), rng.standard_normal(6), np.zeros(6)], 1)
    noise = rng.multivariate_normal(np.zeros(3), [[1, 0.8, 0], [0.8, 1, 0], [0, 0, 4]], 800)
    betas = (signal[image] + noise).astype(np.float32)
    means = betas.reshape(400, 2, 3).mean(1)
    return {"features": features, "image": image, "betas": betas, "means": means}


def test_residuals_of_held_out_images_are_as_large_as_the_noise(fitted: dict[str, np.ndarray]) -> None:
    residuals = held_out_residuals(fitted["features"], fitted["means"], fitted["image"], fitted["betas"], folds=4)
    np.testing.assert_allclose(residuals.var(0), [1, 1, 4], rtol=0.15)
    assert np.corrcoef(residuals.T)[0, 1] == pytest.approx(0.8, abs=0.05)
    encoder = RidgeEncoder.fit(fitted["features"], fitted["means"])
    seen = fitted["betas"] - encoder.predict(fitted["features"])[fitted["image"]]
    assert (residuals.var(0) > seen.var(0)).all()


def test_noise_has_the_variance_or_the_covariance_of_the_residuals(fitted: dict[str, np.ndarray]) -> None:
    rng, residuals = np.random.default_rng(1), fitted["betas"] - fitted["betas"].mean(0)
    drawn = {kind: draw_noise(residuals, 5000, kind, rng) for kind in ("none", "independent", "residuals")}
    assert not drawn["none"].any()
    np.testing.assert_allclose(np.cov(drawn["residuals"].T), np.cov(residuals.T), atol=0.5)
    np.testing.assert_allclose(drawn["independent"].var(0), residuals.var(0), rtol=0.1)
    assert abs(np.corrcoef(drawn["independent"].T)[0, 1]) < 0.05
