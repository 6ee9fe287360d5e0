"""No step of a training waits for the device: the host must be free to prepare the next one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.training.callbacks.finite_guard import FiniteGuard
from tests.models.test_contract import SYSTEMS, VOXELS, Build, batch

#: Operations that wait for a GPU: they read its memory, or their result's shape depends on it.
SYNCHRONISING = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "bincount"),
}
STEPS, EPOCHS = 4, 2


class Synchronisations(Callback, TorchDispatchMode):
    """Counts the operations of each step that would wait for a GPU."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.by_step: list[list[str]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a step."""
        self.by_step.append([])
        self.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End it."""
        self.__exit__(None, None, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation and run it."""
        name = func.overloadpacket.__name__
        if name in SYNCHRONISING or (name.startswith("index") and _by_mask(*args)):
            self.by_step[-1].append(name)
        return func(*args, **(kwargs or {}))


def _by_mask(values: torch.Tensor, indices: Any, *more: Any) -> bool:
    return isinstance(indices, list) and any(one is not None and one.dtype == torch.bool for one in indices)


@pytest.mark.parametrize("build", SYSTEMS)
def test_a_step_does_not_wait_for_the_device(build: Build, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(VOXELS)
    data = batch(model.eval().predict(torch.randn(2, VOXELS[0])).retrieval.shape[1])
    # The optimiser that is not fused keeps its counts of steps on the CPU, where reading them costs nothing.
    model._optimizer = lambda groups: torch.optim.AdamW(groups, lr=1e-3, fused=True)
    model._scheduler = lambda optimizer, iterations_per_epoch: published_onecycle(
        optimizer, iterations_per_epoch=iterations_per_epoch, max_lr=1e-3
    )
    counted = Synchronisations()
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[counted, FiniteGuard()],
        default_root_dir=str(tmp_path),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model.train(), DataLoader([data] * STEPS, batch_size=None, num_workers=0))
    assert counted.by_step == [[]] * (STEPS * EPOCHS)


def test_reading_a_value_is_counted() -> None:
    counted = Synchronisations()
    counted.by_step.append([])
    with counted:
        float(torch.ones(()))
        torch.ones(3).nonzero()
        torch.ones(3)[torch.ones(3) > 0]
    assert counted.by_step[0] == ["_local_scalar_dense", "nonzero", "index"]
