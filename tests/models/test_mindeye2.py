from collections.abc import Sequence

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.objectives import Objective
from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.types import BrainBatch
from tests.models.tiny import alignment, mixer, prior

VOXELS = (9, 7)


def optimizer(groups: list[dict]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=1e-2)


def scheduler(
    optimizer: torch.optim.Optimizer, *, iterations_per_epoch: list[int]
) -> torch.optim.lr_scheduler.LRScheduler:
    return published_onecycle(optimizer, iterations_per_epoch=iterations_per_epoch, max_lr=1e-2)


def system(*, with_prior: bool = True, gain_decay: str = "published", **objective: float) -> MindEye2:
    torch.manual_seed(0)
    drawn_first = prior(sample_steps=4, gain_decay=gain_decay)  # so that the weights do not depend on `with_prior`
    return MindEye2(
        alignment(VOXELS, gain_decay=gain_decay),
        mixer(gain_decay=gain_decay),
        None,
        drawn_first if with_prior else None,
        Objective(**objective),  # type: ignore[arg-type]
        optimizer,
        scheduler,
    )


def batch(subjects: Sequence[int] = (0, 1), seed: int = 0) -> BrainBatch:
    generator = torch.Generator().manual_seed(seed)
    voxels = {subject: torch.randn(6, VOXELS[subject], generator=generator) for subject in (0, 1)}
    tokens = {subject: torch.randn(6, 4, 16, generator=generator) for subject in (0, 1)}
    return BrainBatch(
        [voxels[subject] for subject in subjects],
        list(subjects),
        torch.arange(6 * len(subjects)),
        {"tokens": torch.cat([tokens[subject] for subject in subjects]).half()},
    )


def loss(model: MindEye2, data: BrainBatch, epoch: int = 9) -> float:
    torch.manual_seed(5)
    return float(model.compute_loss(data, epoch=epoch, num_epochs=10).total)


def test_parts_sum_to_the_total() -> None:
    for epoch in (0, 9):
        torch.manual_seed(1)
        result = system().compute_loss(batch(), epoch=epoch, num_epochs=10)
        torch.testing.assert_close(sum(result.parts.values()), result.total.detach())
        assert set(result.parts) == {"contrastive", "prior"}


def test_without_a_prior_the_tokens_learn_the_targets_by_squared_error() -> None:
    data, model = batch(), system(with_prior=False, contrastive_scale=0.0)
    result = model.compute_loss(data, epoch=9, num_epochs=10)
    assert set(result.parts) == {"tokens"}
    error = (result.outputs["tokens"] - data.targets["tokens"].float()).square().mean().detach()
    assert float(result.total.detach()) == pytest.approx(30.0 * float(error), rel=1e-5)
    steps = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        steps.zero_grad()
        model.compute_loss(data, epoch=9, num_epochs=10).total.backward()
        steps.step()
    sampled = model.eval().sample_tokens(model([*data.voxels], data.subject_index).tokens)
    left = (sampled - data.targets["tokens"].float()).square().mean().detach()
    assert float(left) < 0.5 * float(error), "what images are drawn from was fitted"
    unfitted = system(with_prior=False, prior_scale=0.0).compute_loss(data, epoch=9, num_epochs=10)
    assert set(unfitted.parts) == {"contrastive"}


def test_voxels_are_mixed_in_the_first_epochs_of_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from mindeye_pl.models import mindeye

    mixed: list[int] = []
    mix_voxels = mindeye.mix_voxels
    monkeypatch.setattr(mindeye, "mix_voxels", lambda voxels, mixing: mixed.append(1) or mix_voxels(voxels, mixing))
    model = system()
    for epoch in range(10):
        model.compute_loss(batch(), epoch=epoch, num_epochs=10)
    assert len(mixed) == int(0.33 * 10)
    model.eval().compute_loss(batch(), epoch=0, num_epochs=10)
    assert len(mixed) == 3


def test_distillation_compares_mixed_trials_with_mixed_targets() -> None:
    """Trials aligned onto their targets have no distance, mixed or not; others have the mean of 1 - cosine."""
    model, data = system(), batch()
    model.alignment.distillation = 2.0
    aligned = model.align(data.voxels, data.subject_index).detach()
    data.targets["shared"] = aligned
    for epoch in (0, 9):
        found = model.compute_loss(data, epoch=epoch, num_epochs=10).parts["alignment"]
        assert float(found) == pytest.approx(0, abs=1e-6)
    data.targets["shared"] = other = torch.randn_like(aligned)
    cosine = (aligned * other).sum(1) / aligned.norm(dim=1) / other.norm(dim=1)
    result = model.compute_loss(data, epoch=9, num_epochs=10)
    assert float(result.parts["alignment"]) == pytest.approx(2 * float(1 - cosine.mean()), rel=1e-5)
    torch.testing.assert_close(sum(result.parts.values()), result.total.detach())
    assert "alignment" not in model.eval().compute_loss(data, epoch=9, num_epochs=10).parts


def test_order_of_subjects_changes_no_validation_loss() -> None:
    model = system(prior_scale=0.0).eval()
    assert loss(model, batch((0, 1))) == pytest.approx(loss(model, batch((1, 0))), rel=1e-5)


def test_gradients_reach_every_part_but_the_inert_blocks() -> None:
    model = system()
    model.compute_loss(batch(), epoch=9, num_epochs=10).total.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None and p.requires_grad}
    assert without == {name for name, _ in model.named_parameters() if ".channel_blocks." in name}


def test_without_prior_the_backbone_tokens_are_the_prediction() -> None:
    model = system(with_prior=False).eval()
    voxels = torch.randn(1, VOXELS[1])
    tokens = model.predict(voxels, 1).tokens
    assert torch.equal(model.sample_tokens(tokens), tokens)
    assert set(model.compute_loss(batch(), epoch=9, num_epochs=10).parts) == {"contrastive", "tokens"}


def test_a_batch_of_one_is_read_and_reconstructed() -> None:
    model = system().eval()
    out = model.predict(torch.randn(1, VOXELS[0]), subject_index=0)
    assert (out.aligned.shape, out.tokens.shape, out.retrieval.shape) == ((1, 12), (1, 4, 16), (1, 4, 16))
    assert out.latents is None
    assert model.sample_tokens(out.tokens).shape == (1, 4, 16)


def fit(model: MindEye2, data: BrainBatch, **options: object) -> None:
    loader = DataLoader([data] * 2, batch_size=None)
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, loader, loader)


@pytest.mark.parametrize("trainable", ["alignment", "backbone", "prior", ["alignment", "prior"]])
def test_only_the_trainable_parts_learn(trainable: str | list[str], tmp_path: object) -> None:
    model = system()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.freeze_all_but(trainable)
    fit(model, batch(), default_root_dir=str(tmp_path))
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == ({trainable} if isinstance(trainable, str) else set(trainable))


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UserError, match=r"cortex.*alignment"):
        system().freeze_all_but("cortex")
    with pytest.raises(UserError, match=r"low_level.*alignment"):
        system().freeze_all_but(["low_level"])


def test_a_part_that_the_system_has_without_may_be_named_beside_others() -> None:
    both, one = system(), system()
    both.freeze_all_but(["alignment", "low_level"])
    one.freeze_all_but("alignment")
    learning = [[name for name, p in model.named_parameters() if p.requires_grad] for model in (both, one)]
    assert learning[0] == learning[1] != []


def test_training_lowers_the_loss_also_in_bf16(tmp_path: object) -> None:
    for precision in ("32-true", "bf16-mixed"):
        model = system()
        before = loss(model.eval(), batch())
        fit(model.train(), batch(), precision=precision, default_root_dir=str(tmp_path))
        assert loss(model.eval(), batch()) < before


def decayed(model: MindEye2) -> set[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [group for part in model.parts().values() for group in part.parameter_groups()]
    found: list[Tensor] = [p for group in groups for p in group["params"]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, found)) == sorted(map(id, trainable)), "each parameter in one group"
    return {names[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]}


def test_decayed_parameters() -> None:
    published, corrected = decayed(system()), decayed(system(gain_decay="corrected"))
    for name, parameter in system().named_parameters():
        if not parameter.requires_grad:
            continue
        by_substring = name.startswith("alignment.") or "bias" not in name
        assert (name in published) == by_substring, name
        assert (name in corrected) == (parameter.ndim >= 2), name
    assert "prior.network.network.transformer.position_bias.bias.weight" not in published
