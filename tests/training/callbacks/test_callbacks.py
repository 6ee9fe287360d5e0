import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.history import History
from mindeye_pl.training.callbacks.progress import ProgressPrinter
from mindeye_pl.training.callbacks.resume_checkpoint import AtomicCheckpointIO


def trainer(epoch: int, rank: int = 0, **more: object) -> SimpleNamespace:
    place = {"global_rank": rank, "is_global_zero": rank == 0, "world_size": 2}
    return SimpleNamespace(current_epoch=epoch, max_epochs=10, **place, **more)


def test_draws_of_an_epoch_do_not_depend_on_earlier_epochs() -> None:
    callback, draws = EpochSeed(3), {}
    for epoch, before in ((4, 0), (4, 17), (5, 0)):
        torch.randn(before)
        callback.on_train_batch_start(trainer(epoch), None, None, 0)  # type: ignore[arg-type]
        draws[epoch, before] = torch.rand(3)
    assert torch.equal(draws[4, 0], draws[4, 17])
    assert not torch.equal(draws[4, 0], draws[5, 0])
    torch.manual_seed(0)
    wanted = torch.rand(2)
    torch.manual_seed(0)
    callback.on_train_batch_start(trainer(4), None, None, 1)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(2), wanted), "later steps go on with the epoch's draws"


def test_each_rank_draws_its_own() -> None:
    draws = []
    for rank in (0, 1, 0):
        EpochSeed(3).on_train_batch_start(trainer(2, rank), None, None, 0)  # type: ignore[arg-type]
        draws.append((torch.rand(3), np.random.rand(3), random.random()))
    assert torch.equal(draws[0][0], draws[2][0])
    assert not torch.equal(draws[0][0], draws[1][0])
    assert not (draws[0][1] == draws[1][1]).any()
    assert draws[0][2] != draws[1][2]


def test_a_checkpoint_is_complete_or_missing(tmp_path: Path) -> None:
    plugin, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    plugin.save_checkpoint({"weights": torch.ones(3)}, path)

    class Broken:
        def __reduce__(self) -> str:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        plugin.save_checkpoint({"weights": Broken()}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(3))


def test_history_drops_the_epochs_that_are_repeated(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps([{"epoch": 0, "loss": 3.0}, {"epoch": 1, "loss": 2.0}]))
    history = History(path)
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    metrics = {"train/loss_epoch": torch.tensor(1.5), "train/loss_step": torch.tensor(9.0)}
    now = trainer(1, callback_metrics=metrics, optimizers=[optimizer])
    history.on_train_start(now, None)  # type: ignore[arg-type]
    history.on_train_epoch_start(now, None)  # type: ignore[arg-type]
    history._started -= 1.0  # seconds
    history.on_train_batch_end(now, None, None, range(7), 0)  # type: ignore[arg-type]
    history.on_train_epoch_end(now, None)  # type: ignore[arg-type]
    first, second = json.loads(path.read_text())
    assert first == {"epoch": 0, "loss": 3.0}
    assert (second["epoch"], second["train/loss"], second["learning_rate"]) == (1, 1.5, 0.1)
    assert second["trials_per_second"] == pytest.approx(14.0, abs=0.2), "of both ranks"
    assert "train/loss_step" not in second


def test_history_counts_both_parts_of_a_stopped_epoch(tmp_path: Path) -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    now = trainer(1, callback_metrics={}, optimizers=[optimizer])
    stopped, resumed = History(tmp_path / "history.json"), History(tmp_path / "history.json")
    stopped.on_train_epoch_start(now, None)  # type: ignore[arg-type]
    stopped._started -= 1.0  # seconds
    stopped.on_train_batch_end(now, None, None, range(7), 0)  # type: ignore[arg-type]
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    resumed.on_train_start(now, None)  # type: ignore[arg-type]
    resumed.on_train_epoch_start(now, None)  # type: ignore[arg-type]
    resumed._started -= 1.0
    resumed.on_train_batch_end(now, None, None, range(7), 1)  # type: ignore[arg-type]
    resumed.on_train_epoch_end(now, None)  # type: ignore[arg-type]
    (record,) = json.loads((tmp_path / "history.json").read_text())
    assert record["seconds"] == pytest.approx(2.0, abs=0.1)
    assert record["trials_per_second"] == pytest.approx(14.0, abs=0.8)
    later = trainer(2, callback_metrics={}, optimizers=[optimizer])
    resumed.on_train_epoch_start(later, None)  # type: ignore[arg-type]
    assert resumed._trials == 0, "the next epoch begins at zero"


def test_progress_line() -> None:
    metrics = {
        "train/loss_epoch": 12.3,
        "train/prior_epoch": 8.1,
        "train/contrastive_epoch": 4.2,
        "validation/image_retrieval": 0.45,
        "validation/pool_size": 50.0,
    }
    assert ProgressPrinter.line("epoch 3 of 20", metrics) == (
        "  epoch 3 of 20: loss 12.30 = prior 8.10 + contrastive 4.20; "
        "held-out images: the right one of 50 found 45% of the time (chance 2%)"
    )
