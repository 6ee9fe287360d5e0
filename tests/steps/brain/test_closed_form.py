"""`adaptation=[closed_form,...]` through the command line: the map that fine-tuning starts from."""

import numpy as np
import pytest
import torch

from mindeye_pl.steps.brain.closed_form import ALIGNMENT
from mindeye_pl.store.own_files import read_json, read_tensors
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")
CLOSED_FORM = "adaptation=[closed_form,decay_to_start,alignment_alone]"


def test_fine_tuning_starts_from_the_closed_form(cli: CommandLine) -> None:
    """Without a learning rate the fine-tuned weights are the pretrained ones and the map of the closed form."""
    code, out, err = cli(*COMMAND, CLOSED_FORM, "finetune.epochs=1", "scheduler.max_lr=1e-30")
    assert code == 0, err
    assert "aligned in closed form" in out
    made = read_tensors(cli.made("closed_form_alignment") / ALIGNMENT)
    chosen = read_json(cli.made("closed_form_alignment") / "choices.json")
    assert chosen["gain"] in (1.0, 1.5, 2.0, 3.0, 4.0)
    tuned, pretrained = (read_tensors(cli.made(step) / "model.safetensors") for step in ("finetune", "pretrain"))
    torch.testing.assert_close(tuned["alignment.network.linears.0.weight"], made["weight"])
    torch.testing.assert_close(tuned["alignment.network.linears.0.bias"], made["bias"])
    for name in tuned:
        if not name.startswith("alignment."):
            np.testing.assert_array_equal(tuned[name], pretrained[name])


def test_distillation_pulls_aligned_trials_towards_the_shared_vectors(cli: CommandLine) -> None:
    """With this loss alone and a large rate, the cosine of alignment and shared vectors rises in training."""
    how = ("adaptation=[alignment_alone,distillation]", "finetune.epochs=2", "scheduler.max_lr=1e-2")
    silent = [f"objective.{part}_scale=0" for part in ("contrastive", "prior", "low_level")]
    code, _, err = cli(*COMMAND, *how, *silent)
    assert code == 0, err
    table = shared_table(cli.made("closed_form_alignment"), lambda ids: np.eye(len(ids), 4096, dtype=np.float32)[:, :1024], np.arange(3))
    assert table[np.array([2, 0])].shape[0] == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("finetune.start=scratch",), ("closed_form", "got: finetune.start=scratch", "finetune.start=pretrained")),
        (("model=mind_reader",), ("needs a linear alignment", "model=mindeye2")),
        (("trainer.strategy=fsdp",), ("whole weights", "fsdp", "trainer.strategy=ddp")),
        (("finetune.alignment.start=ridge",), ("finetune.alignment.start", "ridge", "random or closed_form")),
    ],
)
def test_what_cannot_be_aligned_is_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*COMMAND, CLOSED_FORM, *more, says=says)
