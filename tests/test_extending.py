"""The tutorials of docs/extending.md, followed in a folder outside the package."""

import json
import re
import shlex
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import gelu, linear

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import load_test_trials, load_training_trials
from mindeye_pl.nn.diffusion.seeds import image_seed, normal_draws
from tests import forked

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "extending.md").read_text()

#: What keeps a run small, beside the commands of the page.
SMALL = ("scale=tiny", "logger=none", "paths.outputs=outputs", "report.compare=[]")


def write_files(folder: Path) -> None:
    """Write the blocks that begin with the name of their file."""
    for name, text in re.findall(r"```(?:python|yaml)\n# (my_lab/\S+)\n(.*?)```", TUTORIAL, re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def command_with(words: str) -> list[str]:
    (line,) = (line for line in TUTORIAL.splitlines() if line.startswith("python -m mindeye_pl") and words in line)
    return shlex.split(line)[1:]


def run(folder: Path, *arguments: str) -> str:
    assert arguments[0] == "-m"
    return forked.run(*arguments[2:], module=arguments[1], folder=folder)


def test_backbone(tmp_path: Path) -> None:
    write_files(tmp_path)
    run(tmp_path, *command_with(" backbone=plain"), *SMALL, "pipeline.steps=[finetune]")
    trained = artifact(tmp_path, "finetune")
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["backbone"]["network"]["_target_"] == "my_lab.plain_backbone.PlainBackbone"
    with safe_open(trained / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert {"backbone.network.layers.0.0.weight", "backbone.network.layers.1.0.weight"} <= names


def test_metric(tmp_path: Path) -> None:
    write_files(tmp_path)
    steps = "pipeline.steps=[evaluate_reconstructions,report]"
    terminal = run(tmp_path, *command_with("+experiment=contrast"), *SMALL, steps)
    assert "contrast ↓" in terminal
    content = read_scores(tmp_path)
    (column,) = (metric for metric in content["metrics"] if metric["name"] == "contrast")
    assert column["question"] == "How far is the contrast from that of the seen image? 0 means equal."
    scored = {line: score for line, row in content["rows"].items() for score in row if score["name"] == column["name"]}
    assert {"model", "grey", "mean_image", "other_image", "shuffled", "true_tokens", "vae"} <= set(scored)
    for score in scored.values():
        assert not score["higher_is_better"]
        assert 0 <= score["interval"][0] <= score["value"] <= score["interval"][1]
    assert scored["grey"]["value"] > scored["other_image"]["value"], "a grey image has no contrast at all"
    assert content["above_null"]["grey"]["contrast"][1] > 0, "so that the model beats it beyond doubt"
    page = (tmp_path / "outputs" / "reports" / "contrast" / "index.html").read_text()
    assert column["question"] in page
    again = run(tmp_path, *command_with("+experiment=scratch +protocol"), *SMALL, steps)
    assert "evaluate_reconstructions: cached" in again, "the line of YAML and the command line mean the same"


def test_dataset(tmp_path: Path) -> None:
    write_files(tmp_path)
    run(tmp_path, "-m", "my_lab.record")
    steps = "pipeline.steps=[evaluate,reconstruct,evaluate_reconstructions,report]"
    terminal = run(tmp_path, *command_with("data=recordings"), *SMALL, steps)
    layout = DataLayout(artifact(tmp_path, "prepare_recordings"))
    counts = {subject: len(load_training_trials(layout, subject, "all", tmp_path / "cache")) for subject in (1, 2)}
    assert counts == {1: 48, 2: 48}, "three trials of each of 16 images"
    assert len(load_test_trials(layout, 1, "new_test", tmp_path / "cache")) == 24
    assert "simulated" not in terminal
    content = read_scores(tmp_path)
    assert content["stimulus_ids"] == list(range(8))
    for line in ("model", "grey", "other_image"):
        assert "clip_two_way" in {score["name"] for score in content["rows"][line]}


def test_system(tmp_path: Path) -> None:
    write_files(tmp_path)
    steps = "pipeline.steps=[evaluate,reconstruct,evaluate_reconstructions,report]"
    run(tmp_path, *command_with("model=gaussian"), *SMALL, "finetune.start=scratch", steps)
    weights = load_file(artifact(tmp_path, "finetune") / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"alignment", "backbone", "prior"}
    layers = [[weights[f"prior.network.layers.{i}.{name}"] for name in ("weight", "bias")] for i in (0, 2)]
    made = load_file(artifact(tmp_path, "reconstruct") / "reconstructions.safetensors")
    tokens, ids = made["backbone_tokens"].float(), made["stimulus_ids"].tolist()
    mean, log_std = linear(gelu(linear(tokens, *layers[0])), *layers[1]).chunk(2, dim=-1)
    noise = next(normal_draws([image_seed(42, id_) for id_ in ids], mean))
    sampled = mean + log_std.clamp(-3, 1).exp() * noise
    torch.testing.assert_close(made["prior_tokens"].float(), sampled, atol=1e-2, rtol=1e-2)
    content = read_scores(tmp_path)
    assert {"pixcorr", "clip_two_way"} <= {score["name"] for score in content["rows"]["model"]}


def artifact(folder: Path, step: str) -> Path:
    (found,) = (folder / "outputs" / "artifacts" / step).glob("[!.]*")
    return found


def read_scores(folder: Path) -> dict:
    return json.loads((artifact(folder, "evaluate_reconstructions") / "scores.json").read_text())
