"""Mind Reader's generator on a subject's brain: to images, end to end, from a stop, and what is refused."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mindeye_pl
from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.runner.preflight import check_inputs
from mindeye_pl.steps.brain.finetune_generator import starting_networks
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.weights.files import read_own
from mindeye_pl.weights.loaders.bundled import GENERATOR, SHIPPED
from tests.conftest import CommandLine

MIND_READER = ("+experiment=scratch", "scale=tiny", "model=mind_reader")
COMMAND = (*MIND_READER, "generator.start=scratch", "logger=none")


def test_from_brains_to_rgbs(cli: CommandLine) -> None:
    code, out, err = cli(*COMMAND)
    assert code == 0, err
    for words in ("conditioned on both", "caption embedding, 1 h", "true tokens", "PixCorr"):
        assert words in out
    generator = cli.made("finetune_generator")
    assert not (generator / "model.safetensors").exists()  # frozen mappers are those of `finetune`
    assert Image.open(generator / "generated.png").width
    images = load_file(cli.made("reconstruct") / "reconstructions.safetensors")
    assert images["images"].shape == (10, 3, 32, 32)
    assert images["prior_tokens"].shape == (10, 2, 64)
    ceiling = load_file(cli.made("draw_true_tokens") / "reconstructions.safetensors")
    assert ceiling["images"].shape == (10, 3, 32, 32)
    scores = json.loads((cli.made("evaluate") / "scores.json").read_text())["rows"]
    assert {score["name"] for score in scores["captions"]} >= {"image_retrieval", "brain_retrieval"}

    (run,) = (cli.outputs / "runs").rglob(".hydra")
    decoder = mindeye_pl.load(run.parent)
    betas = torch.randn(3, decoder.num_voxels)
    read = decoder.reconstruct(betas)
    assert read.images is not None
    assert read.images.shape == (3, 3, 32, 32)
    torch.testing.assert_close(decoder.reconstruct(betas[:2]).images, read.images[:2], rtol=1e-4, atol=1e-5)

    page = (cli.outputs / "reports" / "scratch" / "index.html").read_text()
    assert "caption embedding" in page
    assert "Generator" in page


@pytest.mark.slow
def test_end_to_end_images_use_the_trained_mappers(cli: CommandLine) -> None:
    command = (*COMMAND, "generator.mappers=trained", "pipeline.steps=[reconstruct]")
    code, out, err = cli(*command)
    assert code == 0, err
    assert "mapper_realness" in out
    learned = load_file(cli.made("finetune_generator") / "model.safetensors")
    before = load_file(cli.made("finetune") / "model.safetensors")
    assert set(learned) == set(before)
    assert any((learned[key] != before[key]).any() for key in before)


def test_a_generator_without_captions(cli: CommandLine) -> None:
    """Without captions anywhere: one mapper, one condition, one token; the mapper learns with the generator too."""
    alone = ("caption_mapper=none", "text_embedder=none", "generator.condition=image", "generator.mappers=trained")
    code, _, err = cli(*COMMAND, *alone, "pipeline.steps=[reconstruct,draw_true_tokens]")
    assert code == 0, err
    images = load_file(cli.made("reconstruct") / "reconstructions.safetensors")
    assert images["prior_tokens"].shape == (10, 1, 64)
    ceiling = load_file(cli.made("draw_true_tokens") / "reconstructions.safetensors")
    assert images["images"].shape == ceiling["images"].shape == (10, 3, 32, 32)


@pytest.mark.slow
def test_stopped_it_ends_in_the_same_generator(cli: CommandLine) -> None:
    command, step = (*COMMAND, "generator.epochs=2"), "finetune_generator"
    only = f"pipeline.steps=[{step}]"
    cli.ends_in_the_same_weights(*command, only, step=step, file=GENERATOR, stops=(1,), epochs=2)


def test_the_shipped_generator_begins_with_two_equal_conditions() -> None:
    overrides = [*MIND_READER, "logger=none"]
    run = Run(compose_config(overrides), overrides)
    embedder, start = (run.open(Frozen(group)) for group in ("embedder", "unclip"))
    assert embedder is not None
    sizes, weights = starting_networks(run.config.generator, embedder.settings, start)
    assert sizes["condition"] == "both"
    first = {key: value for key, value in weights.items() if "pre_nets.0." in key}
    assert first
    for key, value in first.items():
        assert torch.equal(weights[key.replace("pre_nets.0.", "pre_nets.1.")], value)
    _, shipped = read_own(SHIPPED / GENERATOR)
    assert shipped["condition"] == "caption"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("caption_mapper=none", ("lacks a condition", "both", "generator.condition=image")),
        ("unclip=tiny", ("generator=lafite", "unclip=tiny", "unclip=lafite")),
    ],
)
def test_unknown_choices(override: str, says: tuple[str, ...]) -> None:
    overrides = [*COMMAND, override]
    run = Run(compose_config(overrides), overrides)
    with pytest.raises(UserError) as refused:
        check_inputs(run, [RECONSTRUCT])
    for words in says:
        assert words in str(refused.value)


def test_refusals_of_the_last_step_come_before_the_first_step(cli: CommandLine) -> None:
    cli.refuses(*COMMAND, "generator.start=middle", says=("generator.start", "middle"))
    assert not (cli.outputs / "artifacts").exists()
