"""Mind Reader behind the same steps: trained from others' brains, read back, and stopped in either of its stages."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file

import mindeye_pl
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.errors import UserError
from mindeye_pl.models.mind_reader import MindReader
from mindeye_pl.models.objectives import MapperObjective
from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.training.checkpoints import WEIGHTS
from tests.conftest import CommandLine
from tests.models.tiny import mapper

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "model=mind_reader", "unclip=none", "logger=none")


def test_from_the_command_to_what_reads_betas(cli: CommandLine, laboratory: Path, tmp_path: Path) -> None:
    code, out, err = cli(*COMMAND)
    assert code == 0, err
    for words in ("image_contrastive", "caption_contrastive", "Image retrieval", "pretraining on"):
        assert words in out
    pretrained, mapped = (load_file(cli.made(step) / WEIGHTS) for step in ("pretrain", "finetune"))
    assert pretrained["image_mapper.voxels.counts"].tolist() == [36, 32, 24]
    assert mapped["caption_mapper.voxels.counts"].tolist() == [40]

    decoder = mindeye_pl.load(cli.made("finetune"))
    (path,) = laboratory.rglob("betas_all_subj01*.hdf5")
    with h5py.File(path) as file:
        betas = file["betas"][:5]
    read = decoder.reconstruct(betas)
    assert (read.tokens.shape, read.retrieval.shape) == ((5, 2, 64), (5, 1, 64))
    assert read.retrieve(torch.rand(7, 3, 32, 32), top_k=2).indices.shape == (5, 2)
    with pytest.raises(UserError, match=r"\(n, 40\)"):
        decoder.reconstruct(betas[:, 1:])

    assert cli(*COMMAND, "pipeline=export", f"export.folder={tmp_path / 'shared'}")[0] == 0
    again = mindeye_pl.load(tmp_path / "shared")
    torch.testing.assert_close(again.reconstruct(betas).tokens, read.tokens)
    checkpoint = f"evaluate.checkpoint={cli.made('finetune') / WEIGHTS}"
    cli.refuses(*COMMAND, checkpoint, "data.subject=2", says=("other voxels", "40 voxels, as in the checkpoint"))


def test_stopped_in_either_stage_it_ends_in_the_same_weights(cli: CommandLine) -> None:
    """Two epochs of each stage, stopped in the second one of the first, and then of the second stage."""
    command = (*COMMAND, "finetune.start=scratch", "finetune.epochs=4", "pipeline.steps=[finetune]")
    cli.ends_in_the_same_weights(*command, step="finetune", file=WEIGHTS, stops=(1, 3), epochs=4)


def test_the_published_run_at_tiny_size(cli: CommandLine) -> None:
    """Image-wise split, every other image trained on, and the epoch chosen by the tested images."""
    published = ("data.split=image_wise_85", "data.sampling=by_trial", "data.repetitions=single")
    validated = ("data.validation_fraction=0", "data.validate_on=tested", "finetune.keep=best_validation")
    command = (*COMMAND, *published, *validated, "finetune.start=scratch", "scheduler=step_decay", "scheduler.every=1")
    code, out, err = cli(*command, "finetune.epochs=4", "pipeline.steps=[finetune,evaluate]")
    assert code == 0, err
    assert "the epoch is selected on the test images" in out
    assert "whose validation loss is the lowest" in out
    manifest = json.loads((cli.made("finetune") / "manifest.json").read_text())
    assert "data.validate_on" in json.dumps(manifest)
    first = sorted(cli.outputs.glob("artifacts/finetune/subj*"))
    assert cli(*command, "finetune.epochs=4", "pipeline.steps=[finetune]", "data.validate_on=held_out")[0] == 2
    assert sorted(cli.outputs.glob("artifacts/finetune/subj*")) == first


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.used: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self.used.append(trainer.optimizers[0].param_groups[0]["lr"])


class Embeddings:
    """A token source: unit vectors that depend on the stimulus alone."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        rows = np.stack([np.random.default_rng(id_).normal(size=(1, 6)) for id_ in ids])
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def test_the_schedule_ends_with_the_last_of_the_larger_batches(tiny_nsd: Path, tmp_path: Path) -> None:
    data = TrialDataModule(
        tiny_nsd, [1], cache_dir=tmp_path, targets={"tokens": Embeddings()}, num_sessions=1, batch_size=6,
        sampling="corrected", trials_per_session=48,
    )  # fmt: skip
    model = MindReader(
        mapper([40]),
        objective=MapperObjective(first_share=0.5),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3),
        scheduler=lambda optimizer, **lengths: published_onecycle(optimizer, max_lr=1e-3, **lengths),
    )
    data.growth, rates = model.batch_growth(4), Rates()
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, reload_dataloaders_every_n_epochs=1,
        callbacks=[rates],
    )  # fmt: skip
    trainer.fit(model, data)
    lengths = data.batches_of_epochs(4)
    assert lengths == [8, 8, 2, 2]
    assert len(rates.used) == trainer.global_step == sum(lengths)
    assert min(rates.used) == rates.used[-1] == pytest.approx(1e-3 / 25 / 1000)
