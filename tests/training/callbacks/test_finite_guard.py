"""A training stops at the first term that is not finite, and its last good checkpoint stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.training.callbacks.finite_guard import FiniteGuard
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint
from mindeye_pl.types import PartLoss
from tests.models.test_mindeye2 import batch, system


def train(model: MindEye2, folder: Path, *callbacks: Callback, epochs: int = 3, steps: int = 3, every: int = 1) -> None:
    checkpoint = ResumeCheckpoint()
    checkpoint.path = folder / "last.ckpt"
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[FiniteGuard(), *callbacks, checkpoint],
        default_root_dir=str(folder),
        log_every_n_steps=every,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader([batch()] * steps, batch_size=None, num_workers=0))


def breaking(model: MindEye2, step: int, *parts: str) -> None:
    """Make some terms infinite from a step on, and the total with them."""
    compute: Callable[..., PartLoss] = model.compute_loss

    def compute_loss(data: Any, **kwargs: int) -> PartLoss:
        loss = compute(data, **kwargs)
        if model.global_step + 1 >= step:
            loss.parts |= {part: loss.parts[part] * torch.inf for part in parts}
            loss.total = loss.total * torch.inf
        return loss

    model.compute_loss = compute_loss  # type: ignore[method-assign]


@pytest.mark.parametrize("every", [1, 2, 50])
def test_the_term_and_its_step_are_named_and_the_checkpoint_before_stays(tmp_path: Path, every: int) -> None:
    model = system()
    breaking(model, 5, "prior")
    with pytest.raises(
        UserError,
        match=r"the term prior of the training loss is not finite \(got: nan or inf at step 5, in epoch 2;.*last\.ckpt",
    ):
        train(model, tmp_path, every=every)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_a_total_without_a_broken_term(tmp_path: Path) -> None:
    model = system()
    breaking(model, 2)
    with pytest.raises(UserError, match=r"the training loss is not finite \(got: nan or inf at step 2"):
        train(model, tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


class BreakWeights(Callback):
    """Makes a weight NaN after the last step of the second epoch, whose losses were finite."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 6:
            with torch.no_grad():
                pl_module.get_parameter("backbone.network.to_tokens.weight")[0] = torch.nan


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the weight backbone\.\S+ is not finite .* at step 6"):
        train(system(), tmp_path, BreakWeights(), every=50)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
