"""MindEye1 as a composition: its phases, what it decays, and what a new subject inherits."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mindeye_pl.losses.contrastive import softclip_loss
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.objectives import Objective
from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.training.checkpoints import load_shared_weights
from mindeye_pl.types import BrainBatch
from tests.models.tiny import alignment, prior, residual_mlp, separate_low_level

VOXELS = (9, 7)


def system(voxels: tuple[int, ...] = VOXELS, **objective: object) -> MindEye1:
    torch.manual_seed(0)
    return MindEye1(
        alignment(voxels, bias_decay=False),
        residual_mlp(),
        None,
        prior(sample_steps=4, target_scale="sqrt_width", renormalise="first_token"),
        Objective(validation="by_phase", **objective),  # type: ignore[arg-type]
    )


def batch(seed: int = 0) -> BrainBatch:
    generator = torch.Generator().manual_seed(seed)
    voxels = [torch.randn(6, count, generator=generator) for count in VOXELS]
    tokens = torch.randn(12, 4, 16, generator=generator)
    return BrainBatch(voxels, [0, 1], torch.arange(12), {"tokens": tokens})


def test_validation_follows_the_phase() -> None:
    model, data = system().eval(), batch()
    retrieval = model(data.voxels, data.subject_index).retrieval.flatten(1)
    similarity = F.normalize(retrieval, dim=1) @ F.normalize(data.targets["tokens"].flatten(1), dim=1).T
    both = [F.cross_entropy(m / 0.006, torch.arange(12)) for m in (similarity, similarity.T)]
    mixing = model.compute_loss(data, epoch=2, num_epochs=10)
    torch.testing.assert_close(mixing.parts["contrastive"], sum(both) / 2, rtol=1e-4, atol=1e-4)
    last = model.compute_loss(data, epoch=9, num_epochs=10)
    expected = softclip_loss(retrieval, data.targets["tokens"].flatten(1), temperature=0.0075)
    torch.testing.assert_close(last.parts["contrastive"], expected)


def test_the_softclip_temperature_of_240_epochs() -> None:
    phases = [Objective().phase(epoch, 240, training=True) for epoch in range(240)]
    soft = [phase.temperature for phase in phases if phase.soft]
    assert len(soft) == 161
    assert (soft[0], soft[-1]) == (pytest.approx(0.004), pytest.approx(0.0075))
    assert [phase.mixes for phase in phases] == [True] * 79 + [False] * 161


def test_no_bias_is_decayed_and_everything_else_is() -> None:
    model = system()
    decayed = {
        id(p)
        for part in model.parts().values()
        for group in part.parameter_groups()
        if group["weight_decay"]
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert (id(parameter) in decayed) == ("bias" not in name), name


def test_a_groups_learning_rate_is_scaled_from_the_schedule() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 5 / 3)]
    optimizer = torch.optim.AdamW(groups)
    schedule = published_onecycle(optimizer, iterations_per_epoch=[3] * 10, max_lr=3e-4)
    for _ in range(30):
        one, other = (group["lr"] for group in optimizer.param_groups)
        assert other == pytest.approx(5 / 3 * one)
        optimizer.step()
        schedule.step()


def test_a_new_subject_inherits_all_weights_but_those_that_read_voxels() -> None:
    def built(voxels: tuple[int, ...], seed: int) -> MindEye1:
        model = system(voxels)
        torch.manual_seed(seed)
        model.low_level = separate_low_level(voxels)
        return model

    pretrained, model = built(VOXELS, 1).state_dict(), built((5,), 2)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    load_shared_weights(model, pretrained, Path("pretrained"), inherit_bias="published")
    voxels = {"alignment.network.linears.0.weight", "low_level.network.alignment.linears.0.weight"}
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key] if key in voxels else pretrained[key]), key


def test_sampled_tokens_are_divided_by_the_norm_of_the_first() -> None:
    model = system().eval()
    tokens = model.sample_tokens(model.predict(torch.randn(3, 9)).tokens)
    torch.testing.assert_close(tokens[:, 0].norm(dim=1), torch.ones(3), rtol=1e-4, atol=1e-4)
