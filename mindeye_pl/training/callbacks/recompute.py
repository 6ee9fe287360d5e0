"""Activations that are computed again in the backward pass, in place of being kept from the forward pass."""

from collections.abc import Collection, Sequence
from functools import partial

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.checkpoint import checkpoint

from mindeye_pl.errors import UserError


class RecomputeActivations(Callback):
    """Keeps the inputs of some modules alone (Chen et al. 2016, arXiv:1604.06174). The gradients are the same.

    Args:
        modules: names of their classes.
    """

    def __init__(self, modules: Sequence[str] = ("CosineAttention", "FeedForward")):
        self.modules = tuple(modules)
        self._changed: list[nn.Module] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change the model's modules; raise a `UserError` if it has none of them."""
        if stage == "fit":
            self._changed = recompute(pl_module, self.modules)
        if stage == "fit" and not self._changed:
            classes = sorted({type(module).__name__ for module in pl_module.modules()})
            raise UserError("callbacks.recompute names no module", got=self.modules, expected=f"some of {classes}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change them back."""
        for module in self._changed:
            del module.forward
        self._changed = []


def recompute(model: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """Let the modules of classes of these names recompute their activations; return them."""
    changed = [module for module in model.modules() if type(module).__name__ in names]
    for module in changed:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    return changed
