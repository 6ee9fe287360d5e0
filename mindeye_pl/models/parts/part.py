"""Base of all trainable parts: one network, and its optimiser groups."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from mindeye_pl.nn.adapters import LowRank, add_adapters
from mindeye_pl.sharing.shareable import Shareable
from mindeye_pl.types import NonNegativeFloat, PositiveFloat, PublishedOrCorrected

#: Prefix that PyTorch adds to the names of sharded parameters.
_FSDP_PREFIX = "_fsdp_wrapped_module."


class Part(Shareable, LightningModule):
    """A trainable part: one network of `nn/` with its loss and its optimiser groups.

    In the configuration the network is a node of its own (`backbone.network._target_`). A network that reads voxels has
    a key `voxel_counts: null`, which is filled from the data when the model is built.

    A part returns its loss and never logs, because Lightning lets only the root module log.

    Args:
        network: the network; a `Recorded` module, so that the part can be saved and rebuilt.
        weight_decay: weight decay of the decayed parameters.
        gain_decay: `published` decays every parameter whose name does not contain "bias", norm gains and learned
            vectors included (MindEye2, spec section 6.6); `corrected` decays only matrices.
        lr_scale: factor on the schedule's learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        super().__init__()
        assert gain_decay in get_args(PublishedOrCorrected), gain_decay
        self.network = network
        self.weight_decay, self.gain_decay, self.lr_scale = weight_decay, gain_decay, lr_scale
        self._note_matrices()
        self._decay_targets: list[tuple[nn.Parameter, Tensor]] = []
        self._constants = frozenset(name for name, p in network.named_parameters() if not p.requires_grad)

    def _note_matrices(self) -> None:
        """Note the names of matrices before a strategy that shards the weights flattens them."""
        self._matrices = frozenset(name for name, p in self.network.named_parameters() if p.ndim >= 2)

    def add_adapters(self, low_rank: LowRank) -> None:
        """Give the network adapters, whose matrices are decayed as its own; see `nn.adapters.add_adapters`."""
        add_adapters(self.network, low_rank)
        self._note_matrices()

    def let_learn(self, learns: bool) -> None:
        """Let the parameters learn, but those that the network was built without gradients, or freeze all."""
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(learns and name not in self._constants)

    def decays(self, name: str) -> bool:
        """Return true if the optimiser decays the parameter of this name."""
        if self.gain_decay == "published":
            return "bias" not in name
        return name.replace(_FSDP_PREFIX, "") in self._matrices

    def decay_to_present_weights(self) -> None:
        """Let weight decay pull towards the present weights in place of zero. Strategies must not shard them."""
        self._decay_targets = [(p, p.detach().clone()) for p in self.network.parameters()]

    @torch.no_grad()
    def correct_decay(self, optimizer: Optimizer) -> None:
        """Move the decayed weights back by what a decoupled decay took of its target; call after each step."""
        if not self._decay_targets:
            return
        targets = {id(parameter): target for parameter, target in self._decay_targets}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if (target := targets.get(id(parameter))) is not None:
                    parameter.add_(target.to(parameter.device), alpha=group["lr"] * group["weight_decay"])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trainable parameters as one group with weight decay and one without; empty groups are omitted."""
        trainable = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        decayed = [p for name, p in trainable if self.decays(name)]
        free = [p for name, p in trainable if not self.decays(name)]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}]
        return [group | {"lr_scale": self.lr_scale} for group in groups if group["params"]]


def read_subjects(
    read: Callable[[Tensor, int], Tensor], voxels: Sequence[Tensor], subject_index: Sequence[int]
) -> Tensor:
    """Apply `read` to each subject's voxels `(b, V_s)` and index; return the results concatenated `(B, ...)`."""
    return torch.cat([read(v, index) for v, index in zip(voxels, subject_index, strict=True)])
