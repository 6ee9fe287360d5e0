"""Arguments of library classes whose own type hints are wider than what works here."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Gt
from pydantic import StringConstraints

from mindeye_pl.types import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
)


@dataclass(frozen=True)
class Reserved:
    """Mark of an argument that the project sets itself; `fix` is the option to use instead."""

    fix: str


#: How much of each epoch is used: a number of batches, or a fraction of them.
_Limit = PositiveInt | Annotated[Fraction, Gt(0)] | None

_DDP = ("ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "ddp_static_graph")
_STAGES = [f"deepspeed_stage_{stage}{where}" for stage in (1, 2) for where in ("", "_offload")]
#: ddp_spawn, ddp_fork and ddp_notebook start ranks from a running process, and DeepSpeed's stage 3 shards the weights:
#: neither works here.
_STRATEGIES = ("auto", *_DDP, "fsdp", "fsdp_cpu_offload", "deepspeed", *_STAGES)

_TRAINER = {
    "accelerator": Literal["cpu", "gpu", "mps", "auto"],
    "devices": PositiveInt
    | Literal["auto", -1, "-1"]
    | list[NonNegativeInt]
    | Annotated[str, StringConstraints(pattern=r"^\d+(,\d+)*,?$"), "numbers of devices, as 0,1"],
    "num_nodes": PositiveInt,
    "strategy": Annotated[str, OneOf(_STRATEGIES)],
    # Weights in half precision meet betas in float32, and fail.
    "precision": Literal["32-true", "16-mixed", "bf16-mixed"],
    "accumulate_grad_batches": PositiveInt,
    "log_every_n_steps": PositiveInt,
    "gradient_clip_val": PositiveFloat | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "max_steps": PositiveInt | Literal[-1],
    "limit_train_batches": _Limit,
    "limit_val_batches": NonNegativeInt | Fraction | None,
    "limit_test_batches": NonNegativeInt | Fraction | None,
    "limit_predict_batches": NonNegativeInt | Fraction | None,
    "check_val_every_n_epoch": PositiveInt | None,
    "profiler": Literal["simple", "advanced", "pytorch"] | None,
    "max_epochs": PositiveInt | None,
    "overfit_batches": NonNegativeInt | Fraction,
    "callbacks": Annotated[Any, Reserved("the group callbacks")],
    "logger": Annotated[Any, Reserved("the group logger")],
}

_OPTIMIZER = {
    "lr": PositiveFloat,
    "eps": PositiveFloat,
    "weight_decay": NonNegativeFloat,
    "momentum": ProperFraction,
    "betas": tuple[ProperFraction, ProperFraction],
}


def narrowed_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that replace those of a library's class, by argument; empty for other callables."""
    module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    if f"{module}.{name}" == "pytorch_lightning.trainer.trainer.Trainer":
        return dict(_TRAINER)
    if inspect.isclass(target) and module.startswith("torch.optim."):
        return dict(_OPTIMIZER)
    return {}
