"""Batches on their way to a device: pinned where that pays, copied while the device goes on, nothing lost."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mindeye_pl.data.resumable import on_gpu
from mindeye_pl.types import BrainBatch, ImageBatch


def brain_batch() -> BrainBatch:
    voxels, targets = [torch.randn(2, 5), torch.randn(3, 4)], {"tokens": torch.randn(5, 2, 3).half()}
    return BrainBatch(voxels, [0, 1], torch.arange(5), targets, [torch.randn(2, 3, 5), torch.randn(3, 3, 4)])


BATCHES = {
    "brains": brain_batch,
    "images": lambda: ImageBatch({"images": torch.rand(2, 3, 4, 4), "ids": torch.arange(2)}),
}


def tensors(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, ImageBatch):
        return list(batch.rows.values())
    return [*batch.voxels, batch.stimulus_ids, *batch.targets.values(), *batch.repetitions]


@pytest.mark.parametrize("kind", BATCHES)
def test_every_tensor_is_pinned_and_moved_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = BATCHES[kind]()
    moved: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 0)
    pinned = batch.pin_memory()
    for tensor, source in zip(tensors(pinned), tensors(batch), strict=True):
        assert torch.equal(tensor, source)
        assert tensor.data_ptr() != source.data_ptr()
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **more: (moved.append(more), to(tensor, *args))[1])
    pinned.to("cpu")
    assert moved == [{"non_blocking": True}] * len(tensors(batch))


@pytest.mark.parametrize("kind", BATCHES)
def test_what_is_not_pinned_is_moved_as_before(kind: str) -> None:
    batch = BATCHES[kind]()
    assert [tensor.dtype for tensor in tensors(batch.to(torch.float64))] == [torch.float64] * len(tensors(batch))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", BATCHES)
def test_on_a_gpu(kind: str) -> None:
    batch = BATCHES[kind]()
    on_device = batch.pin_memory().to("cuda")
    torch.cuda.synchronize()
    assert all(torch.equal(one.cpu(), other) for one, other in zip(tensors(on_device), tensors(batch), strict=True))


def test_loaders_pin_for_a_gpu_alone() -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 1)))
    assert on_gpu(trainer)
    trainer.strategy.root_device = torch.device("cpu")
    assert not on_gpu(trainer)
    assert not on_gpu(None)
