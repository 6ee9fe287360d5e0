"""`adaptation=[closed_form,...]` through the command line: the map that fine-tuning starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mindeye_pl.steps.brain.alignment.closed_form import ALIGNMENT, SHARED, shared_table
from mindeye_pl.store.atomic import write_arrays
from mindeye_pl.store.own_files import read_json, read_tensors
from mindeye_pl.training.closed_form import SharedVectors
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


def test_distillation_alone_changes_the_alignment(cli: CommandLine) -> None:
    silent = (f"objective.{part}_scale=0" for part in ("contrastive", "prior", "low_level"))
    how = ("adaptation=[alignment_alone,decay_to_start,distillation]", "finetune.epochs=1")
    code, out, err = cli(*COMMAND, *how, *silent)
    assert code == 0, err
    assert "alignment" in out
    start = read_tensors(cli.made("closed_form_alignment") / ALIGNMENT)["weight"]
    tuned = read_tensors(cli.made("finetune") / "model.safetensors")["alignment.network.linears.0.weight"]
    assert (tuned - start).abs().max() > 1e-4


def test_shared_vectors_by_image_are_those_of_the_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features, ids = rng.normal(size=(10, 4)).astype(np.float32), np.array([1, 4, 6])
    vectors = SharedVectors(rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32), 1.0, 0.5)
    write_arrays(tmp_path / SHARED, {"weight": vectors.weight, "bias": vectors.bias})
    table = shared_table(tmp_path, features.__getitem__, ids)
    np.testing.assert_array_equal(table[np.array([6, 1, 6])], vectors(features[[6, 1, 6]]))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("finetune.start=scratch",), ("closed_form", "got: finetune.start=scratch", "finetune.start=pretrained")),
        (("model=mind_reader",), ("needs a functional alignment", "model=mindeye2")),
        (("finetune.alignment.start=random", "finetune.alignment.distillation=1"), ("distillation needs a closed",)),
        (("trainer.strategy=fsdp",), ("whole weights", "fsdp", "trainer.strategy=ddp")),
        (("finetune.alignment.start=ridge",), ("finetune.alignment.start", "ridge", "random or closed_form")),
    ],
)
def test_what_cannot_be_aligned_is_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*COMMAND, CLOSED_FORM, *more, says=says)
