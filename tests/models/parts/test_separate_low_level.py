"""MindEye1's low-level model as a part of the system: apart from the rest, on mixed repetitions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.parts import low_level
from tests.models.test_mindeye1 import VOXELS, batch, system
from tests.models.tiny import separate_low_level

LATENTS = (4, 8, 8)


def with_low_level(**options: float) -> MindEye1:
    model = system(low_level_scale=1.0)
    model.low_level = separate_low_level(VOXELS, **options)
    return model


def with_latents(seed: int = 0) -> tuple[Tensor, low_level.BrainBatch]:
    data, generator = batch(seed=seed), torch.Generator().manual_seed(seed)
    latents = torch.randn(len(data), *LATENTS, generator=generator)
    repetitions = [torch.randn(len(v), 3, v.shape[1], generator=generator) for v in data.voxels]
    return latents, replace(data, targets=data.targets | {"latents": latents.flatten(2)}, repetitions=repetitions)


def test_validation_takes_the_mean_of_the_repetitions() -> None:
    model, (latents, data) = with_low_level().eval(), with_latents()
    assert data.repetitions is not None
    loss = model.compute_loss(data, epoch=9, num_epochs=10)
    predicted = [model.low_level.network(r.mean(1), i).latents for i, r in enumerate(data.repetitions)]  # type: ignore[union-attr]
    expected = F.l1_loss(torch.cat(predicted), latents) / 0.18215
    torch.testing.assert_close(loss.parts["low_level"], expected)


def test_training_mixes_the_repetitions_of_each_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def first(repetitions: Tensor) -> Tensor:
        seen.append(repetitions)
        return repetitions[:, 0]

    monkeypatch.setattr(low_level, "mix_repetitions", first)
    model, (latents, data) = with_low_level().train(), with_latents()
    assert data.repetitions is not None
    assert model.low_level is not None
    model.low_level.eval()  # no dropout
    model.low_level.training = True
    loss = model.compute_loss(data, epoch=0, num_epochs=10)  # MixCo mixes the backbone's voxels, not these
    assert all(torch.equal(one, other) for one, other in zip(seen, data.repetitions, strict=True))
    predicted = torch.cat([model.low_level.network(r[:, 0], i).latents for i, r in enumerate(data.repetitions)])
    torch.testing.assert_close(loss.parts["low_level"], F.l1_loss(predicted, latents) / 0.18215)


def test_no_other_part_learns_from_it_and_it_learns_from_no_other() -> None:
    model, (_, data) = with_low_level().train(), with_latents()
    gradients = {}
    for scale in (0.0, 1.0):
        model.objective = replace(model.objective, low_level_scale=scale)
        model.zero_grad()
        torch.manual_seed(3)
        model.compute_loss(data, epoch=9, num_epochs=10).total.backward()
        gradients[scale] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    others = [name for name in gradients[0.0] if not name.startswith("low_level.")]
    assert others
    for name in others:
        torch.testing.assert_close(gradients[0.0][name], gradients[1.0][name])
    assert gradients[1.0]["low_level.network.alignment.linears.0.weight"].abs().sum() > 0


def test_it_is_computed_in_float32_whatever_the_precision() -> None:
    model, (_, data) = with_low_level().train(), with_latents()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.compute_loss(data, epoch=9, num_epochs=10)
    assert loss.outputs["latents"].dtype == torch.float32


def test_without_repetitions_it_learns_from_the_trials() -> None:
    model, (latents, data) = with_low_level().eval(), with_latents()
    loss = model.compute_loss(replace(data, repetitions=None), epoch=9, num_epochs=10)
    predicted = torch.cat([model.low_level.network(v, i).latents for i, v in enumerate(data.voxels)])  # type: ignore[union-attr]
    torch.testing.assert_close(loss.parts["low_level"], F.l1_loss(predicted, latents) / 0.18215)


def test_its_latents_come_with_the_prediction() -> None:
    model, (_, data) = with_low_level().eval(), with_latents()
    prediction = model.predict(data.voxels[1], 1)
    assert prediction.latents is not None
    torch.testing.assert_close(prediction.latents, model.low_level.network(data.voxels[1], 1).latents)  # type: ignore[union-attr]


def test_its_learning_rate_is_scaled_from_the_schedule() -> None:
    groups = with_low_level(lr_scale=5 / 3).low_level.parameter_groups()  # type: ignore[union-attr]
    assert {group["lr_scale"] for group in groups} == {5 / 3}
