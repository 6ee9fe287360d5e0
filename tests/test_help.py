"""`--help` without Hydra, compared with what Hydra lists."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.help import asks_for_help, help_text


def listed(text: str) -> dict[str, list[str]]:
    lines = text.partition("Groups\n")[2].splitlines()
    groups = [line.split(": ", 1) for line in lines if not line.startswith("      ")]
    return {group.strip(): options.split(", ") for group, options in groups}


def test_every_group_with_its_options() -> None:
    GlobalHydra.instance().clear()
    found = listed(help_text())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group, options in found.items():
            known = set(loader.get_group_options(group, results_filter=ObjectType.CONFIG))
            if group.startswith("hydra/"):  # plugins have more
                assert set(options) <= known, group
            else:
                assert options == sorted(known), group
    assert {"experiment", "experiment/sweeps", "scale", "trainer", "preset/mindeye2"} <= found.keys()
    assert "what the published code does, or what is right" in help_text()


@pytest.mark.parametrize("given", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"]])
def test_groups_of_the_user(given: list[str], tmp_path: Path) -> None:
    for name in ("backbone/mine.yaml", "my_group/one.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = listed(help_text([item.format(tmp_path) for item in given]))
    assert "mine" in found["backbone"]
    assert "mixer" in found["backbone"]
    assert found["my_group"] == ["one"]


def test_help_imports_neither_hydra_nor_torch() -> None:
    code = (
        "import runpy, sys; sys.argv = ['mindeye_pl', '--help']; runpy.run_module('mindeye_pl', run_name='__main__');"
        "print(sorted({'hydra', 'omegaconf', 'torch', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.endswith("[]\n")
    assert "+experiment=finetune_subj01_1h" in printed


@pytest.mark.parametrize(
    ("arguments", "asked"), [(["-h"], True), (["scale=tiny", "--help"], True), (["--cfg", "job"], False)]
)
def test_flags(arguments: list[str], asked: bool) -> None:
    assert asks_for_help(arguments) is asked
