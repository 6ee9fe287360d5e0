"""The epoch whose fine-tuned weights are kept."""

import json
from pathlib import Path

import pytest

from mindeye_pl.training import fit as training
from tests.conftest import CommandLine

COMMAND = ("+experiment=scratch", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")
BEST = "finetune.keep=best_validation"


def test_the_weights_of_the_best_validation(cli: CommandLine) -> None:
    epochs = "finetune.epochs=4"
    assert cli(*COMMAND, epochs, "finetune.keep=last")[0] == 0
    code, out, err = cli(*COMMAND, epochs, BEST)
    assert code == 0, err
    folders = sorted((cli.outputs / "artifacts" / "finetune").glob("subj*"))
    assert len(folders) == 2
    for folder in folders:
        assert not list(folder.glob("*.ckpt"))
    losses = [record["validation/loss"] for record in json.loads((folders[0] / "history.json").read_text())]
    assert f"after epoch {losses.index(min(losses)) + 1}, whose validation loss is the lowest" in out
    last, lowest = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert (last == lowest) == (losses.index(min(losses)) == 3)


def test_killed_while_checkpoints_are_removed(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = training.remove

    def remove_and_die(path: Path) -> None:
        remove(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "remove", remove_and_die)
        assert cli(*COMMAND, BEST)[0] == 130
    code, _, err = cli(*COMMAND, BEST)
    assert code == 0, err
    assert not list(cli.made("finetune").glob("*.ckpt"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("finetune.keep=best",), ("finetune.keep", "best", "last or best_validation")),
        (
            (BEST, "data.validation_fraction=0"),
            ("needs validation images", "got: data.validation_fraction=0", "finetune.keep=last"),
        ),
        ((BEST, "trainer.strategy=fsdp"), ("whole weights", "fsdp", "trainer.strategy=ddp")),
    ],
)
def test_invalid_keep_options_are_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*COMMAND, *more, says=says)
