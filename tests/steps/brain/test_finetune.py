"""The epoch whose fine-tuned weights are kept, and the weights that learn."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.nn import adapters
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


PRETRAINED = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")
LORA = (*PRETRAINED, "adaptation=[lora]", "finetune.adapters.rank=2")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("finetune.start=scratch",), ("finetune.adapters need pretrained weights", "finetune.start=scratch")),
        (("finetune.adapters.parts=[cortex]",), ("finetune.adapters.parts", "cortex", "backbone")),
        (("finetune.trainable=[backbone]",), ("finetune.trainable and finetune.adapters.parts", "got: backbone")),
        (("finetune.adapters.rank=1000",), ("finetune.adapters.rank", "got: 1000", "or less")),
        (("finetune.adapters.rank=0",), ("finetune.adapters.rank", "got: 0")),
        (("finetune.adapters.dropout=1",), ("finetune.adapters.dropout", "got: 1")),
        (("trainer.strategy=fsdp",), ("finetune.adapters need whole weights", "fsdp", "trainer.strategy=ddp")),
    ],
)
def test_invalid_adapters_are_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*LORA, *more, says=says)
    assert not (cli.outputs / "artifacts" / "pretrain").exists(), "before anything long begins"


def test_adapters_without_their_package_are_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    cli.refuses(*LORA, says=("package peft", 'pip install "mindeye_pl[adapters]"'))


def test_adapters_resume_and_leave_the_plain_architecture(cli: CommandLine) -> None:
    pytest.importorskip("peft")
    cli.ends_in_the_same_weights(
        *LORA, "finetune.epochs=2", step="finetune", file="model.safetensors", stops=(1,), epochs=2
    )
    before, after = (load_file(cli.made(step) / "model.safetensors") for step in ("pretrain", "finetune"))
    of_subjects = "alignment.network.linears."
    assert {name for name in before if of_subjects not in name} == {name for name in after if of_subjects not in name}
    learned = {
        name for name, value in after.items() if of_subjects not in name and not torch.equal(value, before[name])
    }
    assert learned
    assert all(name.startswith("backbone.") and after[name].ndim == 2 for name in learned), "matrices of the backbone"
    counts = json.loads((cli.made("finetune") / "trained_parameters.json").read_text())
    assert counts["alignment"] == sum(value.numel() for name, value in after.items() if of_subjects in name)
    code, out, err = cli(*LORA, "finetune.epochs=2", "pipeline.steps=[evaluate]")
    assert code == 0, err
    assert "fine-tuning" not in out, "cached"
