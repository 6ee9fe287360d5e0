"""The `trainer` group on several devices: the number of ranks, and checks of the strategy."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import FSDPStrategy

from mindeye_pl.errors import UserError

#: Options of the trainer that change no trained weights, or that a step declares itself: precision, number of ranks.
#: Whatever else is given may change them.
_CHANGES_NOTHING = (
    *("_target_", "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "log_every_n_steps"),
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams"),
    *("deterministic", "benchmark", "detect_anomaly", "inference_mode", "num_sanity_val_steps", "default_root_dir"),
    *("limit_test_batches", "limit_predict_batches", "profiler", "model_registry"),
)


def num_ranks(config: Any) -> int:
    """Return the number of ranks of a training, over all machines."""
    return _devices(config.trainer) * int(config.trainer.get("num_nodes") or 1)


def _devices(trainer: DictConfig) -> int:
    """Return the number of devices per machine, as Lightning reads `devices`."""
    devices = trainer.devices
    if isinstance(devices, str) and "," in devices:
        devices = devices.strip(",").split(",")
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if devices in ("auto", "-1", -1):
        return max(torch.cuda.device_count(), 1) if trainer.accelerator == "gpu" else 1
    return int(devices)


def determined_by_trainer(config: DictConfig) -> dict[str, Any]:
    """Return the settings of the `trainer` group that the weights depend on besides precision; empty on one device.

    The number of ranks is among them, since the global batch is the batch size times the ranks. The strategy is not.
    """
    ranks = num_ranks(config)
    plain: Any = OmegaConf.to_container(config.trainer, resolve=True)
    changed = {f"trainer.{key}": value for key, value in plain.items() if key not in _CHANGES_NOTHING}
    by = {"ranks": ranks if ranks > 1 else None} | changed
    return {key: value for key, value in by.items() if value is not None}


def trainer_options(config: Any, *, sharded: bool = True) -> dict[str, Any]:
    """Return the keyword arguments of the `Trainer` that replace those of `config.trainer`.

    Predictions need no gradients or optimiser state: `sharded=False` replaces strategies that shard weights by DDP.
    """
    if num_ranks(config) == 1:
        return {}
    strategy = config.trainer.get("strategy", "auto")
    if strategy in ("auto", "ddp") or (not sharded and shards_weights(strategy)):
        # Some parameters get no gradient on purpose: inert published blocks, a head that no loss reads, a frozen part.
        return {"strategy": "ddp_find_unused_parameters_true"}
    return {}


def shards_weights(strategy: Any) -> bool:
    """Return whether weights, gradients or optimiser state are sharded over the ranks."""
    return "ddp" not in strategy_name(strategy) and strategy_name(strategy) != "auto"


def strategy_name(strategy: Any) -> str:
    """Return the strategy's name, or the path of its class, in lower case."""
    name = strategy if isinstance(strategy, str) else strategy.get("_target_", "")
    return str(name).lower()


def full_weights(trainer: Trainer) -> dict[str, torch.Tensor] | None:
    """Gather a sharded model's weights on rank 0; None where the module holds them all. Every rank calls it."""
    if not isinstance(trainer.strategy, FSDPStrategy):
        return None
    return {name: value.contiguous() for name, value in trainer.strategy.lightning_module_state_dict().items()}


def check_strategy(config: DictConfig, num_launched: int | None) -> None:
    """Check the `trainer` group; `num_launched` is the number of ranks that torchrun or srun started, if one did.

    Raises:
        UserError: for a missing package, missing devices, or ranks that nothing starts.
    """
    trainer, ranks, devices = config.trainer, num_ranks(config), _devices(config.trainer)
    if "deepspeed" in strategy_name(trainer.get("strategy", "auto")) and find_spec("deepspeed") is None:
        fix = 'pip install "mindeye_pl[deepspeed]"'
        raise UserError("trainer.strategy needs the package deepspeed", got="not installed", fix=fix)
    if trainer.accelerator == "gpu" and devices > (available := torch.cuda.device_count()):
        expected, fix = f"{available} or fewer", f"trainer.devices={available}" if available else "trainer=ddp_cpu"
        raise UserError("trainer.devices exceeds the available GPUs", got=devices, expected=expected, fix=fix)
    if num_launched is not None and num_launched != ranks:
        what = "the number of started ranks is not trainer.devices times trainer.num_nodes"
        fix = f"trainer.devices={os.environ.get('LOCAL_WORLD_SIZE', num_launched)}"
        raise UserError(what, got=num_launched, expected=ranks, fix=fix)
    if num_launched is None and ranks > devices:
        nodes, command = ranks // devices, " ".join(sys.argv[1:])
        raise UserError(
            f"trainer.num_nodes={nodes}: the ranks of the other machines are not started",
            got="python",
            expected="torchrun or srun on each machine",
            fix=f"torchrun --nnodes={nodes} --nproc-per-node={devices} -m mindeye_pl {command}",
        )
