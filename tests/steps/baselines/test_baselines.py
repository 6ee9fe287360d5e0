"""Linear baselines of a finished tiny run: shared among seeds, tuned on training images, scored beside the model."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare
from mindeye_pl.metrics.rescaling import RESCALINGS
from mindeye_pl.schema.nodes.reports import RIDGE_BLUR_UNCLIP, RIDGE_LATENTS, RIDGE_UNCLIP
from mindeye_pl.steps.baselines.images import BASELINES, baseline_steps, decode_latents, read_images
from mindeye_pl.steps.baselines.judge import Judge
from mindeye_pl.steps.baselines.ridge import (
    RIDGE_NOISE_FREE,
    RIDGE_TOKENS,
    RidgePrediction,
    describe_choices,
    ridge_trials,
)
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.targets import Targets
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")


@cache
def run(*more: str) -> Run:
    overrides = [*COMMAND, *more]
    return Run(compose_config(overrides), overrides)


def made(outputs: Path, step: str) -> Path:
    (folder,) = (outputs / "artifacts" / step).glob("subj*")
    return folder


def names(*more: str) -> list[str]:
    return [step.name for step in baseline_steps(run(*more).config)]


def test_a_seed_changes_no_baseline_and_the_data_change_all() -> None:
    for step in (RIDGE_TOKENS, RIDGE_NOISE_FREE, *BASELINES):
        own = run().spec(step).fingerprint
        assert run("seed=7").spec(step).fingerprint == own, step
        assert run("finetune.start=scratch", "ablation=no_prior").spec(step).fingerprint == own, step
        assert run("model=mindeye1").spec(step).fingerprint == own, step
        assert run("data.subject=2").spec(step).fingerprint != own, step
        changed = run("data.num_sessions=2").spec(step).fingerprint != own
        assert changed == (step is not RIDGE_NOISE_FREE), step


def test_only_images_from_the_blur_depend_on_the_strength() -> None:
    drawn, from_blur = BASELINES[1:]
    assert run("unclip.strength=0.4").spec(drawn).fingerprint == run().spec(drawn).fingerprint
    assert run("unclip.strength=0.4").spec(from_blur).fingerprint != run().spec(from_blur).fingerprint


def test_baselines_are_those_that_the_models_allow() -> None:
    assert names() == [RIDGE_LATENTS, RIDGE_UNCLIP, RIDGE_BLUR_UNCLIP]
    assert names("model=mindeye1") == names()
    assert names("unclip.strength=1.0") == [RIDGE_LATENTS, RIDGE_UNCLIP]
    assert names("protocol.baselines=[]") == []
    assert names("model=mind_reader") == [RIDGE_LATENTS, RIDGE_UNCLIP], "a generator starts from no image"
    paper = ("scale=paper", "data=nsd", "paths.weights=/nowhere")
    assert names(*paper) == [], "no weights are here"
    assert list(run(*paper).config.protocol.baselines) == [RIDGE_LATENTS], "the others draw each image once more"


def test_rows_stand_beside_the_model(finished: Path) -> None:
    images = json.loads((made(finished, "evaluate_reconstructions") / "scores.json").read_text())
    assert set(images["baselines"]) == {RIDGE_LATENTS, RIDGE_UNCLIP, RIDGE_BLUR_UNCLIP}
    for line, words in images["baselines"].items():
        assert {score["name"] for score in images["rows"][line]} == {score["name"] for score in images["rows"]["model"]}
        assert words.startswith(("single trials", "trials averaged"))
        assert (made(finished, line) / "images.safetensors").exists()
    retrieval = json.loads((made(finished, "evaluate") / "scores.json").read_text())
    assert retrieval["of_each_image"]["ridge"].keys() == retrieval["of_each_image"]["model"].keys()
    assert "held-out R²" in retrieval["ridge"]
    page = next((finished / "reports").glob("*/index.html")).read_text()
    for title in ("ridge, blurry", "ridge, drawn", "Ridge, drawn from its blur"):
        assert title in page


def test_ridge_finds_more_than_guessing(finished: Path) -> None:
    rows = json.loads((made(finished, "evaluate") / "scores.json").read_text())["rows"]
    values = {line: rows[line][0]["value"] for line in ("shuffled", "ridge", "ceiling")}
    assert values["shuffled"] < values["ridge"] <= values["ceiling"]


def test_all_training_images_are_used_and_no_test_image(finished: Path, cli: CommandLine) -> None:
    own = run(f"paths.outputs={finished}")
    data = ridge_trials(own.inputs(RIDGE_TOKENS), declare(own.resolved, RIDGE_TOKENS.keys))
    trained = np.unique(data.train_trials[0].stimulus_ids)
    assert len(data.validation_trials[0]) == 0
    for step in (RIDGE_TOKENS, BASELINES[0]):
        found = RidgePrediction.read(made(finished, step.name))
        assert set(found.validation_ids.tolist()) == set(trained.tolist()), "of a tiny world all are kept"
        assert not set(found.stimulus_ids.tolist()) & set(trained.tolist())
        assert set(found.choices["scores"]) == set(RESCALINGS)
        assert found.choices["scores"][found.choices["rescaling"]] == max(found.choices["scores"].values())


def test_images_are_drawn_from_the_rescaled_predictions(finished: Path) -> None:
    own = run(f"paths.outputs={finished}")
    latents = RidgePrediction.read(made(finished, RIDGE_LATENTS))
    vae = own.open(Frozen("vae"))
    again = decode_latents(vae.load().eval(), latents.rescaled, torch.device("cpu"))
    torch.testing.assert_close(read_images(made(finished, RIDGE_LATENTS)).float(), again, atol=2e-2, rtol=0)
    drawn, from_blur = (read_images(made(finished, name)) for name in (RIDGE_UNCLIP, RIDGE_BLUR_UNCLIP))
    assert drawn.shape == from_blur.shape == (10, 3, 32, 32)
    assert not torch.equal(drawn, from_blur)


def test_predictions_survive_the_disk(finished: Path) -> None:
    folder = made(finished, "ridge_tokens")
    stored, found = load_file(folder / "ridge.safetensors"), RidgePrediction.read(folder)
    assert found.predictions.dtype == torch.float32
    assert stored["predictions"].dtype == torch.float16
    assert found.predictions.shape[1:] == found.spread.mean.shape
    first = found.first_tokens(1)
    assert torch.equal(first.spread.std, found.spread.std[:1])
    assert torch.equal(first.predictions, found.predictions[:, :1])


def test_the_judge_prefers_the_seen_images(finished: Path) -> None:
    own = run(f"paths.outputs={finished}")
    targets = own.open(Targets())
    ids = RidgePrediction.read(made(finished, "ridge_tokens")).validation_ids[:12]
    judge = Judge.of_images(targets.dataset.stimuli, ids, targets.embedder)
    true = judge.score(judge.seen)
    grey = judge.score(torch.full_like(judge.seen, 0.5))
    assert true == pytest.approx(1.0)
    assert grey == pytest.approx(0.0)
    assert grey < judge.score(judge.seen.flip(3)) < true


def test_choices_in_words() -> None:
    choices = {"trials": "single", "penalty": "common", "penalties": {"1e+08": 64}, "at_lowest": 0.0, "at_highest": 1.0}
    words = describe_choices(choices | {"r2": 0.01, "rescaling": "to the norm"})
    assert words.startswith("single trials, penalty 1e+08, held-out R² 0.010, rescaled to the norm, ")
    assert words.endswith("100 % of the targets at the largest penalty")


def test_evaluations_take_them_as_inputs() -> None:
    leaves = run().leaves(EVALUATE_RECONSTRUCTIONS)
    assert {f"baseline.{step.name}" for step in BASELINES} <= set(leaves)
    assert not any(
        name.startswith("baseline") for name in run("protocol.baselines=[]").leaves(EVALUATE_RECONSTRUCTIONS)
    )
    assert {"ridge", "ceiling"} <= set(run().leaves(EVALUATE))
