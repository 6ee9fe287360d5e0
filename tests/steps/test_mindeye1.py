"""MindEye1 behind the same steps: trained, written as its published files, and scored from them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.decoder import finished_run
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.parts.low_level import SeparateLowLevel
from mindeye_pl.training.build import build_model
from mindeye_pl.training.checkpoints import read_weights
from mindeye_pl.weights.registry import save_published
from tests.conftest import CommandLine

COMMAND = (
    "+experiment=finetune_subj01_1h",
    "scale=tiny",
    "model=mindeye1",
    "low_level=separate",
    "prior.network.target_scale=sqrt_width",
    "prior.renormalise=first_token",
    "finetune.start=scratch",
    "captioner=none",
    "logger=none",
)


def reconstructions(outputs: Path) -> list[dict[str, torch.Tensor]]:
    files = (outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions.safetensors")
    return [load_file(path) for path in sorted(files, key=lambda path: path.stat().st_mtime)]


def test_trained_and_scored_again_from_its_published_files(cli: CommandLine) -> None:
    code, out, _ = cli(*COMMAND, "pipeline=reconstruct")
    assert code == 0
    assert "+ low_level " in out
    (made,) = reconstructions(cli.outputs)
    torch.testing.assert_close(made["prior_tokens"][:, 0].float().norm(dim=1), torch.ones(10), atol=1e-2, rtol=1e-2)
    assert made["blurry_images"].shape == (10, 3, 32, 32)

    (folder,) = (cli.outputs / "artifacts" / "finetune").glob("subj*")
    run, _ = finished_run(folder)
    weights = read_weights(folder / "model.safetensors")
    model = build_model(run.config, [weights["alignment.network.linears.0.weight"].shape[1]])
    model.load_state_dict(weights)
    assert isinstance(model, MindEye1)
    assert isinstance(model.low_level, SeparateLowLevel)
    save_published("mindeye1", model, cli.outputs / "last.pth")
    save_published("mindeye1_low_level", model.low_level.network, cli.outputs / "epoch120.pth")

    published = (f"evaluate.checkpoint={cli.outputs / 'last.pth'}",)
    low_level = f"evaluate.low_level_checkpoint={cli.outputs / 'epoch120.pth'}"
    cli.refuses(*COMMAND, low_level, says=("evaluate.low_level_checkpoint", "evaluate.checkpoint=PATH"))
    cli.refuses(*COMMAND, *published, "pipeline=reconstruct", says=("last.pth", "low_level.network."))
    assert cli(*COMMAND, *published, low_level, "pipeline=reconstruct")[0] == 0
    _, again = reconstructions(cli.outputs)
    for name in ("retrieval", "prior_tokens", "latents", "images"):
        torch.testing.assert_close(again[name], made[name], atol=2e-3, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_the_class_token_s_model_is_trained_and_ranks_images(cli: CommandLine) -> None:
    options = ("model=mindeye1_class_token", "embedder=laptop_class", "unclip=none", "low_level=none")
    assert cli(*(word for word in COMMAND if not word.startswith(("model", "low_level", "prior"))), *options)[0] == 0
    (scores,) = (cli.outputs / "artifacts" / "evaluate").glob("subj*/scores.json")
    assert "image_retrieval" in json.dumps(json.loads(scores.read_text()))
