"""Negatives of a contrastive loss when several processes share a batch.

`local`, as published: from the process's own sub-batch, so that the task gets easier with more processes. `gathered`:
from all sub-batches, the same task as with one process and the whole batch.

With `gathered` each process computes the loss of the whole batch. The gradient of its own rows is summed over the
processes' equal losses; the mean over processes in data-parallel training then yields the gradient of the one loss.

Legend: B rows per process, R processes.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

Negatives = Literal["local", "gathered"]


class _Gather(torch.autograd.Function):
    """Concatenate the rows of all processes; the backward pass sums gradients over the processes."""

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
    """Return the rows of all processes in rank order, differentiable; the input if there is a single process.

    Shape: `(B, ...)` -> `(R B, ...)`; B must be the same in every process.
    """
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return _Gather.apply(rows) if several else rows


def gather_targets(targets: Tensor) -> Tensor:
    """Return the targets of the whole batch, in which a sample contains images of its own process only.

    Shape: `(B, B)` -> `(R B, R B)`, block-diagonal.
    """
    return torch.block_diag(*gather_rows(targets).split(len(targets)))
