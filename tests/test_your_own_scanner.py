"""The tutorial docs/tutorials/your_own_scanner.md, followed with a small study of a planted signal."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.config import compose_config
from tests import forked
from tests.data.own.made_study import write_study

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorials" / "your_own_scanner.md").read_text()
SMALL = ("scale=tiny", "own.image_size=32", "finetune.max_steps=4", "logger=none", "paths.outputs=outputs")
COMMANDS = [line for line in TUTORIAL.splitlines() if line.startswith("python -m mindeye_pl")]


def run(folder: Path, command: str) -> str:
    module, *arguments = shlex.split(command)[2:]
    return forked.run(*arguments, *SMALL, module=module, folder=folder)


def test_the_commands(tmp_path: Path) -> None:
    write_study(tmp_path / "study", num_images=30)
    prepare, train = COMMANDS
    assert "prepare_own: done" in run(tmp_path, prepare)
    assert (tmp_path / "outputs" / "reports" / "adhoc" / "data_card.html").is_file()
    terminal = run(tmp_path, f"{train} pipeline.steps=[finetune,evaluate,report]")
    assert "shuffled brains" in terminal
    assert len(list((tmp_path / "outputs" / "artifacts" / "prepare_own").glob("[!.]*"))) == 1, "used, not made again"
    reports = tmp_path / "outputs" / "reports" / "finetune_own"
    assert (reports / "data_card.html").is_file()
    assert 'href="data_card.html"' in (reports / "index.html").read_text()


def test_the_export_for_python(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=30)
    with h5py.File(study / "sub-01_ses-01_betas.hdf5") as file:
        results = {"typed": {"betasmd": file["betasmd"][:]}}
    (study / "sub-01_ses-01_betas.hdf5").unlink()
    (line,) = (line for line in TUTORIAL.splitlines() if line.startswith("np.save("))
    exec(line.replace('"study/', f'"{study}/'), {"np": np, "results": results})
    assert "prepare_own: done" in run(tmp_path, COMMANDS[0])


def test_the_files_have_the_names_of_the_page(tmp_path: Path) -> None:
    write_study(tmp_path, num_images=4, num_voxels=5)
    listed = re.findall(r"^  (\S+)", TUTORIAL[TUTORIAL.index("study/\n") :].split("```")[0], re.MULTILINE)
    assert {path.name for path in tmp_path.iterdir()} >= {name for name in listed if "/" not in name}


def test_the_options_and_their_defaults() -> None:
    config = compose_config(["data=own"])
    rows = re.findall(r"^\| `own\.(\w+)` \| (\S+) \|", TUTORIAL, re.MULTILINE)
    assert len(rows) >= 7
    for name, default in rows:
        value = config.own._get_node(name)._value()
        shown = "null" if value is None else str(value).removeprefix("${").removesuffix("}")
        assert shown == default.strip("`"), name


@pytest.mark.parametrize("link", re.findall(r"\]\(#([\w-]+)\)", TUTORIAL))
def test_links_inside_the_page(link: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^## (.+)", TUTORIAL, re.M)
    }
    assert link in headings
