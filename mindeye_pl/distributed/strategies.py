"""How the `trainer` group spreads a training over devices: how many ranks there are, and which strategies are right."""

import os
import sys
from importlib.util import find_spec
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import FSDPStrategy

from mindeye_pl.errors import UserError

#: Parts may be without a gradient on purpose: inert published blocks, a head that no loss reads, a frozen stage.
_PLAIN = {"auto": "ddp_find_unused_parameters_true", "ddp": "ddp_find_unused_parameters_true"}

#: What changes the weights of a training beside precision and the number of ranks, where it is set: the amount of
#: training, and the validations that choose the weights that are kept.
_CHANGES_WEIGHTS = (
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "limit_val_batches",
    "max_epochs",
    "max_steps",
    "max_time",
    "overfit_batches",
    "val_check_interval",
)


def num_ranks(config: DictConfig) -> int:
    """Processes that a training of this configuration runs in, over all machines."""
    return _devices(config.trainer) * int(config.trainer.get("num_nodes") or 1)


def _devices(trainer: DictConfig) -> int:
    """Devices of one machine, as Lightning reads `devices`."""
    asked: Any = OmegaConf.to_object(trainer.devices) if OmegaConf.is_list(trainer.devices) else trainer.devices
    if isinstance(asked, str) and "," in asked:
        asked = [part for part in asked.split(",") if part.strip()]
    if isinstance(asked, list):
        return len(asked)
    if asked in ("auto", "-1", -1):
        return max(torch.cuda.device_count(), 1) if trainer.accelerator == "gpu" else 1
    return int(asked)


def determined_by_trainer(config: DictConfig) -> dict[str, Any]:
    """What of the `trainer` group a training's weights depend on beside the precision; empty on one plain device.

    The global batch is the batch size times the ranks, so their number counts; how they are made to work together
    does not.
    """
    ranks = num_ranks(config)
    by: dict[str, Any] = {"ranks": ranks} if ranks > 1 else {}
    for key in _CHANGES_WEIGHTS:
        if (value := config.trainer.get(key)) is not None:
            by[f"trainer.{key}"] = value
    return by


def trainer_options(config: DictConfig, *, started_here: bool, sharded: bool = True) -> dict[str, Any]:
    """What the `Trainer` needs beside the configured group.

    Args:
        config: the run's.
        started_here: whether rank 0 starts the other ranks itself; Lightning must then not take a cluster's word for
            where they are.
        sharded: False replaces strategies that shard the weights by one that copies them: predictions have no
            gradient, and a model that is only read fits where it was trained.

    Returns:
        Keyword arguments; `plugins` among them.
    """
    if num_ranks(config) == 1:
        return {"plugins": []}
    options: dict[str, Any] = {"plugins": [LightningEnvironment()] if started_here else []}
    strategy = config.trainer.get("strategy", "auto")
    if not sharded and shards_weights(strategy):
        strategy = "ddp"
    if isinstance(strategy, str):
        options["strategy"] = _PLAIN.get(strategy, strategy)
    return options


def shards_weights(strategy: Any) -> bool:
    """Whether a rank holds a part of the model, or of its training, alone."""
    return "ddp" not in strategy_name(strategy) and strategy_name(strategy) != "auto"


def strategy_name(strategy: Any) -> str:
    """What `trainer.strategy` is called, in small letters: the word itself, or its class."""
    named = strategy if isinstance(strategy, str) else strategy.get("_target_", "")
    return str(named).lower()


def full_weights(trainer: Trainer) -> dict[str, torch.Tensor] | None:
    """The whole model's weights, gathered on rank 0; None where the module holds them anyway. All ranks call it."""
    if not isinstance(trainer.strategy, FSDPStrategy):
        return None
    return {name: value.contiguous() for name, value in trainer.strategy.lightning_module_state_dict().items()}


def check_strategy(config: DictConfig, started_outside: int | None) -> None:
    """Refuses what cannot be trained as asked, before anything long begins.

    Args:
        config: the run's.
        started_outside: ranks that torchrun or srun started, None where it was neither.

    Raises:
        UserError: for a strategy that does not fit, a package or devices that are missing, or ranks that nobody starts.
    """
    trainer, ranks = config.trainer, num_ranks(config)
    name = strategy_name(trainer.get("strategy", "auto"))
    if any(word in name for word in ("spawn", "fork", "notebook")):
        wanted = "ddp, fsdp or deepspeed_stage_2"
        raise UserError("trainer.strategy does not work here", got=name, expected=wanted, fix="trainer.strategy=ddp")
    if "deepspeed" in name and find_spec("deepspeed") is None:
        fix = 'pip install "mindeye_pl[deepspeed]"'
        raise UserError("trainer.strategy needs the package deepspeed", got="it is not installed", fix=fix)
    if "deepspeed" in name and "3" in name:
        raise UserError("DeepSpeed's third stage shards the weights themselves", got=name, fix="trainer=fsdp")
    if trainer.accelerator == "gpu" and _devices(trainer) > torch.cuda.device_count():
        seen, asked = torch.cuda.device_count(), _devices(trainer)
        fix = f"trainer.devices={seen}"
        raise UserError("trainer.devices asks for more GPUs than there are", got=seen, expected=asked, fix=fix)
    if started_outside is not None and started_outside != ranks:
        raise UserError(
            "another number of ranks was started than trainer.devices times trainer.num_nodes",
            got=started_outside,
            expected=ranks,
            fix=f"trainer.devices={os.environ.get('LOCAL_WORLD_SIZE', started_outside)}",
        )
    if started_outside is None and ranks > _devices(trainer):
        nodes, command = ranks // _devices(trainer), " ".join(sys.argv[1:])
        raise UserError(
            f"trainer.num_nodes={nodes}: nobody starts the ranks of the other machines",
            got="python",
            expected="torchrun or srun on each machine",
            fix=f"torchrun --nnodes={nodes} --nproc-per-node={_devices(trainer)} -m mindeye_pl {command}",
        )
