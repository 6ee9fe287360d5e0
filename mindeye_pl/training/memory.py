"""Memory that a training needs on its device, computed before it starts.

A step of forward, backward and optimiser is run on tensors that have a shape and a device but no memory
(`torch._subclasses.FakeTensorMode`), while the bytes that they would take are counted.

Legend: peak, the largest sum of all tensors that live at the same time.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

GIB = 2**30

#: Autocast types of Lightning's precisions; others train in float32.
_AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class MemoryTracker(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, each storage once, as long as it lives.

    Attributes:
        live: bytes now.
        peak: largest `live` since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._counted = weakref.WeakSet[Any]()

    def restart(self) -> int:
        """Forget the peak and return it."""
        peak, self.peak = self.peak, self.live
        return peak

    def add(self, tensors: Iterable[Any]) -> None:
        """Count the tensors among some objects."""
        for one in tensors:
            if isinstance(one, Tensor) and (storage := one.untyped_storage()) not in self._counted:
                size = storage.nbytes()
                self._counted.add(storage)
                weakref.finalize(storage, self._remove, size)
                self.live += size
                self.peak = max(self.peak, self.live)

    def _remove(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its results."""
        made = func(*args, **(kwargs or {}))
        self.add(tree_iter(made))
        return made


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step needs.

    Attributes:
        weights: parameters and buffers.
        gradients: of the parameters that are trained.
        optimizer: state that is kept between steps.
        activations: what the forward pass keeps for the backward pass, weights in half precision included.
        peak: of a whole step.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int

    @property
    def required(self) -> float:
        """Bytes that a device needs: the peak and a tenth for fragments and kernels' workspaces."""
        return 1.1 * self.peak


def training_memory(
    model: nn.Module,
    batch: Any,
    compute_loss: Callable[[Any, Any], Tensor],
    make_optimizer: Callable[[Any], Optimizer],
    *,
    precision: Any = "32-true",
    copies: int = 1,
    mode: FakeTensorMode | None = None,
) -> TrainingMemory:
    """Return the memory of a training step. Nothing is computed, and `model` and `batch` stay as they are.

    Args:
        model: in train mode, on any device.
        batch: what a step reads; its size is not counted in the parts, but in the peak.
        compute_loss: returns the loss of such a model and batch; it may not depend on values.
        make_optimizer: returns the optimiser of such a model.
        precision: Lightning's.
        copies: of the gradients: 2 with DDP, which keeps them in buckets too.
        mode: in which `model` and `batch` were made, where they have no memory themselves.
    """
    mode = mode or FakeTensorMode()
    model, batch = without_memory(model, mode), without_memory(batch, mode)
    with mode, MemoryTracker() as tracker:
        tracker.add([*model.parameters(), *model.buffers()])
        weights = tracker.live
        tracker.add(_tensors(batch))
        given, optimizer = tracker.live, make_optimizer(model)
        for _ in range(2):  # the optimiser's state is made in the first step
            optimizer.zero_grad()
            before = tracker.live
            tracker.restart()
            with _autocast(precision, next(model.parameters()).device.type):
                loss = compute_loss(model, batch)
            activations = tracker.live - before
            loss.backward()
            del loss
            optimizer.step()
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        state, buckets = tracker.live - gradients - given, (copies - 1) * gradients
        return TrainingMemory(weights, copies * gradients, state, activations, tracker.peak + buckets)


def without_memory(value: Any, mode: FakeTensorMode) -> Any:
    """Return a copy of a module, or of a tensor or a dataclass, list or dictionary of some, without memory."""
    if isinstance(value, nn.Module):
        return _module_without_memory(value, mode)
    if isinstance(value, Tensor):
        return _tensor_without_memory(value, mode)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: without_memory(getattr(value, field.name), mode) for field in fields(value)}
        return replace(value, **parts)
    if isinstance(value, dict):
        return {key: without_memory(item, mode) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_memory(item, mode) for item in value)
    return value


def _module_without_memory(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): _tensor_without_memory(tensor, mode) for tensor in tensors})


def _tensor_without_memory(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    return tensor if isinstance(tensor, FakeTensor) else mode.from_tensor(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in what `without_memory` copies."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _autocast(precision: Any, device_type: str) -> AbstractContextManager[Any]:
    dtype = _AUTOCAST.get(str(precision))
    return nullcontext() if dtype is None else torch.autocast(device_type, dtype=dtype)
