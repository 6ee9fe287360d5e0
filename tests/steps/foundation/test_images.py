"""The laptop's foundation models from scenes to files that make images; resumed after a kill they are the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mindeye_pl.data.image_sources import ImageFolder
from mindeye_pl.data.simulated.vocabulary import MARKS, tokenize_captions, vocabulary
from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.captioner import plain_text
from mindeye_pl.weights.loaders.bundled import UNCLIP, load_captioner, load_clip, load_unclip
from tests.conftest import CommandLine

COMMAND = ("pipeline=pretrain_foundation", "foundation=tiny", "scale=tiny", "logger=none")


def test_foundation_models_make_images(cli: CommandLine) -> None:
    assert cli(*COMMAND)[0] == 0
    for step in ("pretrain_clip", "pretrain_vae", "pretrain_unclip", "pretrain_captioner"):
        history = json.loads((cli.made(step) / "history.json").read_text())
        assert len(history) == 2
        assert all(np.isfinite(record["validation/loss"]) for record in history)
    together = cli.made("evaluate_foundation")
    card = (together / "MODEL_CARD.md").read_text()
    assert "96 simulated scenes, seed 1000; the last 16 held out" in card
    assert "unclip.safetensors: " in card
    assert "| unclip, another image | pixcorr |" in card
    clip, embedder = load_clip(together)
    unclip = load_unclip(together)
    images = torch.rand(3, 3, 32, 32)
    tokens = embedder(images)
    assert tokens.shape == (3, 4, 16)
    seeds = [1, 2, 3]
    latents = unclip.sample(
        tokens, noise=unclip.start(seeds), uncond_tokens=unclip.uncond_tokens(seeds, 4), steps=2, guidance=2
    )
    assert unclip.decode(latents).shape == (3, 3, 32, 32)
    assert unclip.encode(images).shape == latents.shape
    assert unclip.vae.config["scaling_factor"] != 0.13025  # measured, not SDXL's
    captioner = load_captioner(together)
    said = captioner(tokens, max_length=7)
    assert said.shape == (3, 7)
    assert captioner.text is not None
    assert all(isinstance(sentence, str) for sentence in captioner.text(said))
    assert clip.encode_text(tokenize_captions(["A large red circle."])).shape == (1, 16)


@pytest.mark.slow
def test_an_experiment_with_the_users_foundation_models(cli: CommandLine) -> None:
    """The folder that the training ends in is what `foundation.folder` takes."""
    assert cli(*COMMAND)[0] == 0
    models = cli.made("evaluate_foundation")
    choices = ("embedder=laptop", "embedder.num_tokens=4", "embedder.token_dim=16", "unclip=laptop", "unclip.steps=2")
    code, out, _ = cli(
        "+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", *choices, f"foundation.folder={models}"
    )
    assert code == 0
    assert "PixCorr" in out


@pytest.mark.slow
def test_a_stopped_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    """Stopped in the second epoch of the unCLIP, whose averaged weights have to come back too."""
    cli.ends_in_the_same_weights(*COMMAND, step="pretrain_unclip", file=UNCLIP, stops=(1,), epochs=2)


def test_vae_from_a_folder_of_images(cli: CommandLine, tmp_path: Path) -> None:
    source = tmp_path / "images"
    (source / "below").mkdir(parents=True)
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 40, 3), np.uint8)
        Image.fromarray(pixels).save(source / "below" / f"{index}.png")
    images = f"foundation.images.source={source}"
    assert cli(*COMMAND, images, "pipeline.steps=[pretrain_vae]", "foundation.vae.epochs=1")[0] == 0
    cli.refuses(*COMMAND, images, says=("pretrain_clip needs captions",))
    none = f"foundation.images.source={tmp_path / 'none'}"
    cli.refuses(*COMMAND, none, "pipeline.steps=[pretrain_vae]", says=("the image folder is missing or empty", "got: "))


def test_image_folder(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"no image")
    folder = ImageFolder(tmp_path, 16)
    read = folder.read(np.array([1]))
    assert read.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(read[0, :, 8, 8], [1, 0, 0])
    with pytest.raises(UserError, match=r"a\.png is damaged or not an image"):
        folder.read(np.array([0]))


def test_captions_come_back_from_their_word_numbers() -> None:
    text = "A large striped red rabbit to the left of a small blue castle, on light and dark green stripes."
    numbers = tokenize_captions([text, "A red thing."])
    words = plain_text(list(vocabulary()), MARKS)
    assert words(numbers)[0] == text
    assert "<unknown>" in words(numbers)[1]
    assert numbers.max() == len(vocabulary()) - 1  # the end, by which open_clip finds it
