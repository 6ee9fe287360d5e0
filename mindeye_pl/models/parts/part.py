"""What every trainable part has in common: one network, and the optimiser groups it asks for."""

from typing import Any, get_args

from pytorch_lightning import LightningModule
from torch import nn

from mindeye_pl.sharing.shareable import Shareable
from mindeye_pl.types import NonNegativeFloat, PositiveFloat, PublishedOrCorrected

#: What PyTorch puts into the names of parameters that are sharded.
_FSDP_PREFIX = "_fsdp_wrapped_module."


class Part(Shareable, LightningModule):
    """A trainable part around one network of `nn/`.

    A stage returns its loss and never logs: Lightning lets only the root module log, and a stage may be either.

    Args:
        network: the part itself.
        weight_decay: AdamW's, for the parameters that are decayed.
        gain_decay: `published` decays every parameter whose name does not contain "bias", so norm gains and learned
            vectors too (spec of MindEye2, section 6.6); `corrected` decays matrices alone.
        lr_scale: this part's share of the schedule's learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weight_decay: NonNegativeFloat,
        gain_decay: PublishedOrCorrected,
        lr_scale: PositiveFloat = 1.0,
    ):
        super().__init__()
        assert gain_decay in get_args(PublishedOrCorrected), gain_decay
        self.network = network
        self.weight_decay = weight_decay
        self.gain_decay = gain_decay
        self.lr_scale = lr_scale
        # Noted now: a strategy that shards the weights flattens them before the optimiser is made.
        self._matrices = frozenset(name for name, p in network.named_parameters() if p.ndim >= 2)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether AdamW decays this parameter."""
        if self.gain_decay == "published":
            return "bias" not in name
        return name.replace(_FSDP_PREFIX, "") in self._matrices

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trainable parameters as one decayed and one free group; empty groups are left out."""
        trainable = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        decayed = [p for name, p in trainable if self.decays(name, p)]
        free = [p for name, p in trainable if not self.decays(name, p)]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        return [group | {"lr_scale": self.lr_scale} for group in groups if group["params"]]
