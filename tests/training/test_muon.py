"""Muon and AdamW as one optimiser: each parameter's update, resuming, the schedule, and a training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.training.muon import Muon
from tests.conftest import CommandLine

LR, DECAY = 1e-2, 0.1


def parameters() -> dict[str, nn.Parameter]:
    """Two matrices, of which one reads voxels, a vector and a convolution."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"hidden": (6, 4), "input": (6, 9), "bias": (6,), "convolution": (3, 2, 3, 3)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def groups(own: dict[str, nn.Parameter]) -> list[dict[str, object]]:
    backbone = [own["hidden"], own["convolution"]]
    return [
        {"params": backbone, "weight_decay": DECAY, "part": "backbone"},
        {"params": [own["bias"]], "weight_decay": 0.0, "part": "backbone", "lr_scale": 0.5},
        {"params": [own["input"]], "weight_decay": DECAY, "part": "alignment"},
    ]


def set_gradients(own: dict[str, nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in own.values():
        p.grad = torch.randn(p.shape, generator=generator)


def orthogonalised(gradient: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns, exactly; five iterations come near it."""
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    return left @ right


def test_hidden_matrices_are_orthogonalised_and_the_rest_is_adamw() -> None:
    own, adamw = parameters(), parameters()
    before = own["hidden"].detach().clone()
    muon, reference = Muon(groups(own), LR), torch.optim.AdamW(groups(adamw), LR, fused=True)
    for optimizer, of in ((muon, own), (reference, adamw)):
        set_gradients(of, 0)
        optimizer.step()
    for name in ("input", "bias", "convolution"):
        assert torch.equal(own[name], adamw[name]), name
    update = (before * (1 - LR * DECAY) - own["hidden"]) / (LR * 0.2 * 6**0.5)  # as large as AdamW's
    gradient = own["hidden"].grad
    assert gradient is not None
    assert torch.linalg.svdvals(update).sub(1).abs().max() < 0.35  # the published iteration ends within 0.7 to 1.2
    assert torch.cosine_similarity(update.flatten(), orthogonalised(gradient).flatten(), dim=0) > 0.95


def test_resumed_steps_are_those_of_one_run() -> None:
    alone, resumed = parameters(), parameters()
    muon, before = Muon(groups(alone), LR), Muon(groups(resumed), LR)
    for step in range(4):
        set_gradients(alone, step)
        muon.step()
        set_gradients(resumed, step)
        if step == 2:
            after = Muon(groups(resumed), 1.0)
            after.load_state_dict(before.state_dict())
            before = after
        before.step()
    assert all(torch.equal(alone[name], p) for name, p in resumed.items())


def test_the_schedule_reaches_both() -> None:
    own = parameters()
    muon = Muon(groups(own), LR)
    scheduler = published_onecycle(muon, iterations_per_epoch=[2] * 6, max_lr=LR)
    for step in range(5):
        set_gradients(own, step)
        before = {name: p.detach().clone() for name, p in own.items()}
        muon.step()
        scheduler.step()
        assert all(not torch.equal(before[name], p) for name, p in own.items())
    assert {group["lr"] for group in muon.param_groups if "lr_scale" not in group} == {scheduler.get_last_lr()[0]}
    assert len(muon.state) == len(own)


def test_an_older_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(Exception, match=r"optimizer=muon needs a newer torch .*2\.9"):
        Muon(groups(parameters()), LR)


def test_a_training(cli: CommandLine, finished: Path) -> None:
    command = ("+experiment=finetune_subj01_1h", "scale=tiny", "pipeline.steps=[finetune]", "logger=none")
    assert cli(*command, "optimizer=muon")[0] == 0
    folders = (cli.outputs / "artifacts" / "finetune").glob("subj*/model.safetensors")
    muon, adamw = map(load_file, sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[:2])
    assert muon.keys() == adamw.keys()
    assert all(rows.isfinite().all() for rows in muon.values())
