"""Muon for the matrices of hidden layers beside AdamW for all other parameters, as one optimiser."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from mindeye_pl.errors import UserError
from mindeye_pl.types import NonNegativeFloat, PositiveFloat, PositiveInt, ProperFraction


class Muon(Optimizer):
    """Orthogonalised momentum for hidden matrices (Jordan et al. 2024); AdamW for vectors, convolutions and inputs.

    An update of a matrix is scaled to the size of AdamW's (Liu et al. 2025), so that both have the same learning rate
    and schedule. A schedule that changes beta1 changes AdamW's alone.

    Args:
        params: parameters, or groups of them; `part` in a group is the name of the model's part, and a group's own
            `weight_decay` holds for both.
        lr: learning rate.
        betas: AdamW's.
        eps: AdamW's.
        momentum: Muon's.
        steps: Newton-Schulz iterations of an orthogonalisation.
        input_parts: parts whose matrices read voxels; AdamW trains them.
        fused: whether AdamW's parameters are updated by one kernel.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: PositiveFloat,
        *,
        betas: tuple[NonNegativeFloat, NonNegativeFloat] = (0.9, 0.999),
        eps: PositiveFloat = 1e-8,
        momentum: ProperFraction = 0.95,
        steps: PositiveInt = 5,
        input_parts: Collection[str] = ("alignment",),
        fused: bool = True,
    ):
        if not hasattr(torch.optim, "Muon"):
            fix = 'pip install "torch>=2.9"'
            raise UserError("optimizer=muon needs a newer torch", got=torch.__version__, expected="2.9", fix=fix)
        matrices, others = [], []
        for group in _groups(params):
            hidden = [p for p in group["params"] if p.ndim == 2 and group.get("part") not in input_parts]
            rest = [p for p in group["params"] if not any(p is other for other in hidden)]
            matrices += [group | {"params": hidden}] if hidden else []
            others += [group | {"params": rest}] if rest else []
        self._optimizers: list[Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(matrices, lr=lr, momentum=momentum, ns_steps=steps, adjust_lr_fn="match_rms_adamw")
            self._optimizers.append(muon)
        if others:
            self._optimizers.append(AdamW(others, lr=lr, betas=betas, eps=eps, fused=fused))
        self._sizes = [len(one.param_groups) for one in self._optimizers]
        groups = [group for one in self._optimizers for group in one.param_groups]
        super().__init__(groups, {"lr": lr, "betas": betas})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take loaded groups and state."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Give both optimisers this one's groups, which a schedule writes to, and its state, which is saved."""
        first = 0
        for one, count in zip(self._optimizers, self._sizes, strict=True):
            one.param_groups = self.param_groups[first : first + count]
            one.state = self.state
            first += count

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self._optimizers:
            one.step()
        return loss


def _groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    given = list(params)
    return given if given and isinstance(given[0], dict) else [{"params": given}]
