"""The number of ranks of a `trainer` group, the options of each strategy, and configurations that are refused."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import FSDPStrategy
from safetensors.torch import load_file
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from mindeye_pl.config import check_config, compose_config
from mindeye_pl.distributed.strategies import (
    check_strategy,
    determined_by_trainer,
    full_weights,
    num_ranks,
    shards_weights,
    trainer_options,
)
from mindeye_pl.errors import UserError
from mindeye_pl.training.callbacks.resume_checkpoint import AtomicCheckpointIO
from mindeye_pl.training.checkpoints import save_weights
from tests.distributed.two_ranks import on_two_ranks
from tests.models.test_mindeye2 import batch, system


@pytest.fixture(autouse=True)
def _fresh_hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("overrides", "ranks"),
    [
        ([], 1),
        (["trainer.devices=2"], 2),
        (["trainer.devices='2'"], 2),
        (["trainer.devices=[0,2,3]"], 3),
        (["trainer.devices='1,3,'"], 2),
        (["trainer.devices=auto"], 1),
        (["trainer=ddp_cpu"], 2),
        (["trainer=gpu", "trainer.devices=4", "trainer.num_nodes=2"], 8),
    ],
)
def test_number_of_ranks(overrides: list[str], ranks: int) -> None:
    config = compose_config(overrides)
    assert num_ranks(config) == ranks
    assert determined_by_trainer(config) == ({"ranks": ranks} if ranks > 1 else {})


def test_trainer_options_that_change_weights() -> None:
    config = compose_config(["+trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=7"])
    assert determined_by_trainer(config) == {"trainer.accumulate_grad_batches": 2}
    config = compose_config(["debug=overfit", "+trainer.max_epochs=3"])
    assert determined_by_trainer(config) == {"trainer.overfit_batches": 2, "trainer.max_epochs": 3}
    plugin = "+trainer.plugins={_target_: my_lab.Precision}"
    config = compose_config(
        ["+trainer.sync_batchnorm=true", "+trainer.min_epochs=2", "+trainer.later_option=1", plugin]
    )
    assert determined_by_trainer(config) == {
        "trainer.sync_batchnorm": True,
        "trainer.min_epochs": 2,
        "trainer.later_option": 1,
        "trainer.plugins": {"_target_": "my_lab.Precision"},
    }


def test_parts_without_a_gradient_are_looked_for() -> None:
    for overrides in (["trainer=ddp_cpu"], ["trainer.devices=2"]):
        options = trainer_options(compose_config(overrides))
        trainer = instantiate(compose_config(overrides).trainer, logger=False, _convert_="all", **options)
        assert trainer.strategy._ddp_kwargs == {"find_unused_parameters": True}
        assert trainer.world_size == 2
    assert trainer_options(compose_config([])) == {}


def test_predictions_are_not_sharded() -> None:
    for name in ("fsdp", "deepspeed"):
        config = compose_config([f"trainer={name}", "trainer.devices=2"])
        assert shards_weights(config.trainer.strategy)
        options = trainer_options(config, sharded=False)
        assert options["strategy"].startswith("ddp")
    assert not shards_weights(compose_config(["trainer=ddp"]).trainer.strategy)


def test_the_fsdp_option_builds_its_strategy() -> None:
    strategy = instantiate(compose_config(["trainer=fsdp"]).trainer.strategy, _convert_="all")
    assert isinstance(strategy, FSDPStrategy)
    assert strategy.mixed_precision_config is not None
    assert strategy.mixed_precision_config.buffer_dtype == torch.float32
    assert strategy.kwargs["use_orig_params"]


@pytest.mark.parametrize(
    ("overrides", "outside", "says"),
    [
        (["trainer=ddp_cpu", "trainer.strategy=deepspeed_stage_2"], None, r'pip install "mindeye_pl\[deepspeed\]"'),
        (["trainer=ddp_cpu", "trainer.num_nodes=2"], None, "torchrun --nnodes=2 --nproc-per-node=2 -m mindeye_pl"),
        (["trainer=ddp_cpu"], 3, "got: 3; expected: 2"),
        ([], 2, "got: 2; expected: 1"),
    ],
)
def test_refused_with_one_line(overrides: list[str], outside: int | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_strategy(compose_config(overrides), outside)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_notebook", "deepspeed_stage_3"])
def test_unsupported_strategies_are_refused(strategy: str) -> None:
    with pytest.raises(UserError, match=rf"got: {strategy}; expected: .*ddp"):
        check_config(compose_config(["trainer=ddp_cpu", f"trainer.strategy={strategy}"]))


def test_valid_settings_are_not_refused() -> None:
    for overrides, outside in (
        ([], None),
        (["trainer=ddp_cpu"], None),
        (["trainer=ddp_cpu", "trainer.num_nodes=2"], 4),
    ):
        check_strategy(compose_config(overrides), outside)


class OnCPU(FSDPStrategy):
    """Lightning's FSDP takes GPUs alone; PyTorch's works on a CPU that it is told of."""

    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:
        precision, device = self.mixed_precision_config, torch.device("cpu")
        return FullyShardedDataParallel(model, mixed_precision=precision, device_id=device, **self.kwargs)


def trainer_of(folder: Path, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    quiet |= {"logger": False, "enable_checkpointing": False, "use_distributed_sampler": False}
    return Trainer(accelerator="cpu", max_epochs=2, default_root_dir=str(folder), **quiet, **options)


def sharded_trainer(folder: Path) -> Trainer:
    configured = compose_config(["trainer=fsdp"]).trainer.strategy
    keys = ("auto_wrap_policy", "mixed_precision")
    strategy = OnCPU(**{key: instantiate(configured[key], _convert_="all") for key in keys})
    return trainer_of(folder, devices=2, strategy=strategy, plugins=[AtomicCheckpointIO(), LightningEnvironment()])


def sharded_training(rank: int, folder: Path) -> dict[str, Any]:
    """Trains in two shards, and then takes up the checkpoint as a run does that was killed after its last epoch."""
    os.environ.update(LOCAL_RANK=str(rank))
    model, trainer, checkpoint = system(gain_decay="corrected"), sharded_trainer(folder), folder / "last.ckpt"
    torch.manual_seed(7)  # the same draws on both ranks, and in the one process below
    trainer.fit(model, DataLoader([batch()] * 2, batch_size=None))
    trainer.save_checkpoint(checkpoint)
    names = {id(p): name.replace("_fsdp_wrapped_module.", "") for name, p in model.named_parameters()}
    groups = trainer.optimizers[0].param_groups
    again = sharded_trainer(folder)
    resumed = system(gain_decay="corrected")
    again.fit(resumed, DataLoader([batch()] * 2, batch_size=None), ckpt_path=str(checkpoint), weights_only=True)
    weights, resumed_weights = full_weights(trainer), full_weights(again)
    assert weights is not None
    assert resumed_weights is not None
    if rank == 0:
        save_weights(model, folder / "gathered.safetensors", weights)
    return {
        "decayed": [names[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]],
        "sharded": any(isinstance(part, FullyShardedDataParallel) for part in trainer.strategy.model.modules()),
        "weights": weights,
        "resumed": resumed_weights,
    }


@pytest.mark.slow
def test_weights_that_are_sharded_are_saved_whole(tmp_path: Path) -> None:
    first, second = on_two_ranks(sharded_training, tmp_path, tmp_path)
    assert first["sharded"]
    assert not second["weights"], "rank 0 alone holds them"
    model = system(gain_decay="corrected")
    assert set(first["decayed"]) == {n for n, p in model.named_parameters() if p.requires_grad and p.ndim >= 2}
    torch.manual_seed(7)
    trainer_of(tmp_path, devices=1).fit(model, DataLoader([batch()] * 2, batch_size=None))
    found = load_file(tmp_path / "gathered.safetensors")
    assert found.keys() == first["resumed"].keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
        assert torch.equal(found[name], first["resumed"][name]), name
