"""Mistakes on the command line itself: keys, choices and experiments; one line, and nothing is written."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mindeye_pl.config import check_command_line
from mindeye_pl.errors import UserError
from tests.conftest import CommandLine

EXPERIMENT = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")


def test_sweep_without_multirun(cli: CommandLine) -> None:
    cli.refuses(
        "+experiment=sweeps/seeds_subj01_1h", "scale=tiny", says=("sweep", "Fix: python -m mindeye_pl -m +experiment=")
    )


@pytest.mark.parametrize("override", ["finetune.epoch=3", "data.subjekt=1", "nonsense=1"])
def test_unknown_key_on_the_command_line(cli: CommandLine, override: str) -> None:
    cli.refuses(*EXPERIMENT, override, says=(override.split("=")[0].split(".")[-1],))


def test_unknown_key_added_on_the_command_line(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "+finetune.epoch=3", says=("unknown key", "finetune.epoch", "expected: finetune.epochs"))


def test_unknown_key_inside_an_experiment_file(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /experiment/finetune_subj01_1h\n  - _self_\nfinetune:\n  epoch: 3\n"
    )
    cli.refuses(
        f"hydra.searchpath=[file://{folder.parent}]",
        "+experiment=typo",
        "scale=tiny",
        says=("unknown key", "finetune.epoch", "expected: finetune.epochs"),
    )


def test_unknown_choice_of_a_group(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "prior=diffussion", says=("prior/diffussion",))


def test_unknown_experiment(cli: CommandLine) -> None:
    cli.refuses("+experiment=finetune_subj09_1h", says=("experiment/finetune_subj09_1h",))


@pytest.mark.parametrize("twice", [("seed=1", "seed=7"), ("scale=tiny", "+scale=laptop")])
def test_a_key_given_twice(twice: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"(seed|scale) is given twice .got: \S+ and \S+; expected: one value"):
        check_command_line([EXPERIMENT[0], *twice])


@pytest.mark.parametrize(
    "name",
    [
        "../../../../evil",
        "/etc/evil",
        "sweeps/../../evil",
        "'../evil'",
        "finetune_subj01_1h,../evil",
        ".hidden",
        "[a,/b]",
    ],
)
@pytest.mark.parametrize("key", ["+experiment", "experiment", "+experiment@_global_"])
def test_an_experiment_elsewhere(key: str, name: str, cli: CommandLine, tmp_path: Path) -> None:
    """Folders of results have the name of the experiment, and Hydra makes the first before any check of values."""
    before = set(tmp_path.parent.rglob("*"))
    cli.refuses(
        f"{key}={name}", "scale=tiny", says=("below the folder of experiments", f"got: {name}", "--config-dir=DIR")
    )
    assert set(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["finetune_subj01_1h", "sweeps/seeds-2.b", "choice(a,sweeps/b)", "glob(*)", "a,b"])
def test_names_of_experiments(name: str) -> None:
    check_command_line([f"+experiment={name}"])


def test_the_configuration_is_printed_resolved(cli: CommandLine) -> None:
    code, out, err = cli("--cfg", "job", "--resolve", *EXPERIMENT)
    assert code == 0, err
    found = OmegaConf.create(out)
    assert found.pretrain.subjects == [2, 5, 7]
    assert "${" not in out
    assert not cli.artifacts()
