"""The laptop's unCLIP, trained on from an earlier training's file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.models.foundation import UnCLIPTraining
from mindeye_pl.steps.foundation.unclip import PRETRAIN_UNCLIP
from tests.conftest import CommandLine

COMMAND = ("pipeline=pretrain_unclip", "foundation=tiny", "scale=tiny", "logger=none")
TRAINED_ON = (*COMMAND, "foundation.unclip.start=trained")


@pytest.fixture
def first(cli: CommandLine, tmp_path: Path) -> Path:
    """The file of a training from random weights, which is removed from the artifacts."""
    assert cli(*COMMAND)[0] == 0
    made = cli.made(PRETRAIN_UNCLIP.name)
    return made.rename(tmp_path / "first") / "unclip.safetensors"


def test_trains_on_from_a_file(cli: CommandLine, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    compute = UnCLIPTraining.compute_loss

    def watched(self: UnCLIPTraining, batch: dict[str, torch.Tensor]) -> object:
        assert self.regressed is not None
        seen.append(self.training)
        return compute(self, batch)

    monkeypatch.setattr(UnCLIPTraining, "compute_loss", watched)
    code, _, err = cli(*TRAINED_ON, f"foundation.unclip.checkpoint={first}", "foundation.unclip.max_lr=1e-9")
    assert code == 0, err
    assert set(seen) == {True, False}
    second = load_file(cli.made(PRETRAIN_UNCLIP.name) / "unclip.safetensors")
    torch.testing.assert_close(second, load_file(first), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "foundation.unclip.start=trained needs a file"),
        (("foundation.unclip.checkpoint=nothing.safetensors",), "foundation.unclip.checkpoint does not exist"),
        (("foundation.unclip.regressed.noise=[4,1]",), "foundation.unclip.regressed.noise=[1,4]"),
    ],
)
def test_mistakes_are_one_line(cli: CommandLine, overrides: tuple[str, ...], message: str) -> None:
    code, _, err = cli(*TRAINED_ON, *overrides)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_refuses_a_file_of_other_sizes(cli: CommandLine, first: Path) -> None:
    code, _, err = cli(*TRAINED_ON, f"foundation.unclip.checkpoint={first}", "foundation.unclip.packing=1")
    assert code == 2
    assert "has other sizes than foundation.unclip" in err
    assert "'packing': 2" in err
