"""The weights that learn in a fine-tuning: whole parts, and low-rank adapters of others."""

from collections.abc import Sequence
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.nn.adapters import LowRank, full_ranks


def choose_trained_weights(model: BrainDecoder, trainable: str | Sequence[str], adapters: Any = None) -> None:
    """Freeze what does not learn, and add the adapters.

    Args:
        model: with the weights that it starts from.
        trainable: parts that learn as a whole; "all" are those without adapters.
        adapters: node `finetune.adapters`; None for no adapters.

    Raises:
        UserError: for an unknown part, a part that is named twice or has no layer to adapt, too large a rank, or if
            `peft` is not installed.
    """
    model.freeze_all_but(trainable)
    if adapters is None:
        return
    parts, option = model.parts(), "finetune.adapters"
    for name in adapters.parts:
        if name not in parts:
            raise UserError(f"{option}.parts names no part", got=name, expected=f"some of {list(parts)}")
        if trainable != "all" and name in trainable:
            fix = f"take {name} out of one of them"
            raise UserError(f"finetune.trainable and {option}.parts name the same part", got=name, fix=fix)
        ranks = full_ranks(parts[name].network)
        if not ranks:
            fix = "leave it out; what belongs to a subject learns as a whole"
            raise UserError(f"{option}.parts: no linear layer that subjects share", got=name, fix=fix)
        if adapters.rank > (largest := max(ranks.values())):
            what = f"{option}.rank is larger than every layer of the {name}"
            raise UserError(what, got=adapters.rank, expected=f"{largest} or less")
    for name in adapters.parts:
        parts[name].add_adapters(LowRank(adapters.rank, adapters.alpha, adapters.dropout))


def trained_counts(model: BrainDecoder) -> dict[str, int]:
    """Return the number of parameters that learn by part, without the parts that are frozen."""
    learning = {name: [p for p in part.parameters() if p.requires_grad] for name, part in model.parts().items()}
    return {name: sum(p.numel() for p in parameters) for name, parameters in learning.items() if parameters}
