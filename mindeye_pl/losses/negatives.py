"""Where the wrong answers of a contrastive loss come from, when several processes share a batch.

`local`, as published: from the process's own share of the batch, so that the task gets easier the more processes share
it. `gathered`: from all shares, so that it is the task of one process with the whole batch.

With `gathered` each process computes the loss of the whole batch. The gradient that comes back to its own rows is the
sum over the processes' equal losses, and the mean over processes that data-parallel training takes makes it the
gradient of the one loss.

Legend: B rows of one process, R processes.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

Negatives = Literal["local", "gathered"]


class _Gather(torch.autograd.Function):
    """Rows of all processes, whose gradients are summed over the processes on the way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, differentiable; its input where there is one process.

    Shape: `(B, ...)` -> `(R B, ...)`; B must be the same in every process.
    """
    return _Gather.apply(rows) if _num_processes() > 1 else rows


def gather_targets(targets: Tensor) -> Tensor:
    """What each row of the whole batch is made of, where a row is made of rows of its own process alone.

    Shape: `(B, B)` -> `(R B, R B)`, block-diagonal.
    """
    return torch.block_diag(*gather_rows(targets).split(len(targets)))


def _num_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
