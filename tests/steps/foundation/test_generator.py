"""The generator from images with captions to a file that makes images, and its scores."""

import json
from pathlib import Path

import torch
from PIL import Image

from mindeye_pl.steps.foundation.evaluate_generator import COLOUR_NOISE, GENERATOR, UNTRAINED, colour_noise
from mindeye_pl.weights.files import read_own
from mindeye_pl.weights.loaders.bundled import load_generator
from tests.conftest import CommandLine

COMMAND = (
    "pipeline=pretrain_generator",
    "scale=tiny",
    "foundation=tiny",
    "embedder=laptop_embedding",
    "text_embedder=laptop",
    "logger=none",
)


def test_a_generator_is_trained_and_scored(cli: CommandLine) -> None:
    code, out, _ = cli(*COMMAND)
    assert code == 0
    assert "generator_clip" in out
    made = cli.made("pretrain_generator")
    weights, sizes = read_own(made / "generator.safetensors")
    assert {key.split(".")[0] for key in weights} == {"generator", "discriminator"}
    assert sizes["condition"] == "caption"
    assert Image.open(made / "generated.png").size == (8 * 32, 4 * 32)
    history = json.loads((made / "history.json").read_text())
    assert all(record["validation/fid"] > 0 for record in history)

    rows = json.loads((cli.made("evaluate_generator") / "scores.json").read_text())["rows"]
    names = {score["name"] for score in rows[GENERATOR]}
    assert {"fid_clip_to_held_out_images", "fid_vae_to_held_out_images", "clip_two_way", "clip_16_way"} <= names
    assert {GENERATOR, UNTRAINED, COLOUR_NOISE} <= set(rows)

    generator = load_generator(made)
    tokens = torch.randn(3, 2, 64)
    images = generator.draw(tokens, [1, 2, 3])
    assert images.shape == (3, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    torch.testing.assert_close(generator.draw(tokens[1:2], [9])[0], images[1], rtol=1e-4, atol=1e-5)
    random = load_generator(made, "random")
    drawn = random.draw(tokens, [1, 2, 3])
    assert (drawn != images).any()
    torch.testing.assert_close(random.draw(tokens[1:2], [2])[0], drawn[1], rtol=1e-4, atol=1e-5)


def test_other_images_need_captions(cli: CommandLine, tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / f"{index:02d}.png")
    cli.refuses(
        *COMMAND, f"foundation.images.source={tmp_path}", says=("needs captions", "foundation.generator.captions=")
    )
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps([["a red circle"]] * 3))
    cli.refuses(
        *COMMAND,
        f"foundation.images.source={tmp_path}",
        f"foundation.generator.captions={captions}",
        says=("has another number of images", "3 images", "20"),
    )


def test_unknown_objective(cli: CommandLine) -> None:
    cli.refuses(*COMMAND, "foundation.generator.objective.latents=gaussian", says=("latents", "gaussian", "zeros"))


def test_colour_noise_has_the_images_own_pixels() -> None:
    images = torch.rand(2, 3, 4, 4)
    noise = colour_noise(images, torch.Generator().manual_seed(0))
    assert (noise != images).any()
    for shown, shuffled in zip(images.flatten(2), noise.flatten(2), strict=True):
        assert sorted(map(tuple, shown.T.tolist())) == sorted(map(tuple, shuffled.T.tolist()))
