"""The tutorials of docs/extending.md, followed in a folder outside the package."""

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
    small = ("scale=tiny", "logger=none", "pipeline.steps=[finetune]", "paths.outputs=outputs", "report.compare=[]")
    run(tmp_path, *command_with(" backbone=plain"), *small)
    (trained,) = (tmp_path / "outputs" / "artifacts" / "finetune").glob("[!.]*")
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["backbone"]["network"]["_target_"] == "my_lab.plain_backbone.PlainBackbone"
    with safe_open(trained / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert {"backbone.network.layers.0.0.weight", "backbone.network.layers.1.0.weight"} <= names
