"""Low-rank adapters of linear layers (LoRA, Hu et al. 2021, arXiv:2106.09685), by the library `peft`.

An adapter of rank r adds `alpha / r * B A` to a weight `(out, in)` that does not learn; A is `(r, in)`, B is `(out, r)`
and starts at zero. After the training the sum replaces the weight, so that nothing else deals with adapters.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec

from torch import nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.alignment import PerSubject


@dataclass(frozen=True)
class LowRank:
    """Size of the adapters of a network.

    Attributes:
        rank: r; a layer with fewer inputs or outputs gets an adapter of their number.
        alpha: an adapter is multiplied by alpha / rank.
        dropout: probability on an adapter's input.
    """

    rank: int
    alpha: float
    dropout: float = 0.0


def check_package() -> None:
    """Raise a `UserError` if `peft` is not installed."""
    if find_spec("peft") is None:
        raise UserError("adapters need the package peft", got="not installed", fix='pip install "mindeye_pl[adapters]"')


def full_ranks(network: nn.Module) -> dict[str, int]:
    """Return the largest rank of each linear layer that the subjects share, by name."""
    own = {id(inner) for outer in network.modules() if isinstance(outer, PerSubject) for inner in outer.modules()}
    return {
        name: min(layer.in_features, layer.out_features)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and id(layer) not in own
    }


def add_adapters(network: nn.Module, low_rank: LowRank) -> None:
    """Give each linear layer that the subjects share an adapter, and freeze all else that they share.

    Modules of single subjects learn. The outputs stay the same until the first step. Raises a `UserError` if `peft` is
    not installed.
    """
    check_package()
    from peft import LoraConfig, inject_adapter_in_model

    ranks = {name: min(low_rank.rank, full) for name, full in full_ranks(network).items()}
    assert ranks, "no linear layer"
    by_layer = {f"^{re.escape(name)}": rank for name, rank in ranks.items()}
    config = LoraConfig(
        target_modules="|".join(map(re.escape, ranks)),
        rank_pattern=by_layer,
        alpha_pattern={name: low_rank.alpha / low_rank.rank * rank for name, rank in by_layer.items()},  # one scale
        lora_dropout=low_rank.dropout,
    )
    inject_adapter_in_model(config, network)
    for module in network.modules():
        if isinstance(module, PerSubject):
            module.requires_grad_(True)


def merge_adapters(network: nn.Module) -> None:
    """Add the adapters to the weights, and restore the layers. The outputs are the same up to rounding."""
    from peft.tuners.lora import LoraLayer

    adapted = {name: layer for name, layer in network.named_modules() if isinstance(layer, LoraLayer)}
    for name, layer in adapted.items():
        layer.merge()
        network.set_submodule(name, layer.get_base_layer())
    network.__dict__.pop("peft_config", None)
