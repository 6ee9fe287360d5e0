"""Debug runs: short, with results in a folder of their own that is never taken for a real one."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.training.checkpoints import WEIGHTS
from tests.conftest import CommandLine

COMMAND = ("+experiment=scratch", "scale=tiny", "pipeline.steps=[finetune]")


def made(cli: CommandLine) -> Path:
    """The folder of the debug run's fine-tuning."""
    (folder,) = (cli.outputs / "debug" / "artifacts" / "finetune").glob("[!.]*")
    return folder


def test_fast_dev_run_takes_two_batches_and_writes_beside_no_real_result(cli: CommandLine) -> None:
    code, out, err = cli(*COMMAND, "debug=fast_dev_run", "finetune.epochs=50")
    assert code == 0, err
    assert "for 2 epochs of 2 steps" in out
    assert load_file(made(cli) / WEIGHTS)
    assert {path.name for path in cli.outputs.iterdir()} <= {"debug", "targets", "cache"}


def test_overfit_repeats_its_batches(cli: CommandLine) -> None:
    code, out, err = cli(*COMMAND, "debug=overfit", "finetune.epochs=3")
    assert code == 0, err
    assert "for 3 epochs of 2 steps" in out


def test_profile_leaves_its_table_in_the_artifact(cli: CommandLine) -> None:
    code, _, err = cli(*COMMAND, "debug=profile")
    assert code == 0, err
    assert "optimizer_step" in (made(cli) / "fit-profile.txt").read_text()


@pytest.mark.parametrize("option", ["fast_dev_run", "overfit", "profile"])
def test_a_debug_run_has_other_fingerprints_than_a_real_one(option: str) -> None:
    real, debug = (compose_config(["scale=tiny", f"debug={name}"]) for name in ("none", option))
    assert determined_by_trainer(real) == {}
    assert determined_by_trainer(debug) != {}
    assert debug.paths.artifacts == f"{debug.paths.outputs}/debug/artifacts"
    assert not debug.logger, "results of a debug run are not logged"
