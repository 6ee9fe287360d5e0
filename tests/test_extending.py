"""The tutorials of docs/extending.md, followed in a folder outside the package."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from safetensors import safe_open

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
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_backbone(tmp_path: Path) -> None:
    write_files(tmp_path)
    run(tmp_path, *command_with(" backbone=plain"), *SMALL, "pipeline.steps=[finetune]")
    (trained,) = (tmp_path / "outputs" / "artifacts" / "finetune").glob("[!.]*")
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


def read_scores(folder: Path) -> dict:
    (path,) = (folder / "outputs" / "artifacts" / "evaluate_reconstructions").glob("[!.]*/scores.json")
    return json.loads(path.read_text())
