"""Adversarial training: whose turn it is, what is descended, what is averaged, and that it goes on after a stop."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mindeye_pl.losses.gan import generator_loss
from mindeye_pl.models.gan.objective import DISCRIMINATOR, GENERATOR, PATH_LENGTH, R1, AdversarialObjective
from mindeye_pl.models.gan.training import AdversarialTraining
from mindeye_pl.nn.stylegan2.networks import build_discriminator, build_generator
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.image_grid import GeneratedGrid
from mindeye_pl.types import ImageBatch

WIDTH, SIDE, BATCH = 6, 16, 4
SIZES = {
    "image_size": SIDE,
    "latent_dim": 5,
    "w_dim": 5,
    "image_dim": WIDTH,
    "caption_dim": WIDTH,
    "channel_base": 64,
    "channel_max": 8,
    "mapping_layers": 1,
    "projection_reduction": "per_sample",
}


class Embedder(nn.Module):
    """A frozen network from images to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.map = nn.Linear(3 * SIDE * SIDE, WIDTH).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        return self.map(images.flatten(1))[:, None]


def training(condition: str = "both", **numbers: object) -> AdversarialTraining:
    torch.manual_seed(0)
    sizes = SIZES | {"condition": condition}
    objective = AdversarialObjective(**numbers)  # type: ignore[arg-type]
    return AdversarialTraining(build_generator(sizes), build_discriminator(sizes), Embedder(), objective)


def batch(seed: int = 0) -> ImageBatch:
    drawn = torch.Generator().manual_seed(seed)
    captions = F.normalize(torch.randn(BATCH, 2, WIDTH, generator=drawn), dim=-1)
    captions[0, 1] = 0
    return ImageBatch(
        {
            "images": torch.rand(BATCH, 3, SIDE, SIDE, generator=drawn),
            "image": F.normalize(torch.randn(BATCH, 1, WIDTH, generator=drawn), dim=-1),
            "captions": captions,
        }
    )


class Batches(Dataset[ImageBatch]):
    """Three batches."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> ImageBatch:
        if index >= len(self):
            raise IndexError
        return batch(index)


def fitted(model: AdversarialTraining, epochs: int, folder: Path, *, going_on: bool = False, **more: object) -> None:
    folder.mkdir(exist_ok=True)
    loader = DataLoader(Batches(), batch_size=None)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[EpochSeed(7), GeneratedGrid(folder / "generated.png")],
        default_root_dir=str(folder),
        enable_checkpointing=False,
        **more,  # type: ignore[arg-type]
    )
    path = folder / "last.ckpt"
    trainer.fit(model, loader, loader, ckpt_path=str(path) if going_on else None, weights_only=True)
    trainer.save_checkpoint(path)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def differs(before: dict[str, Tensor], module: nn.Module) -> bool:
    return any((before[key] != value).any() for key, value in module.state_dict().items())


def test_regularisers_are_lazy() -> None:
    phases = [AdversarialObjective().phases(iteration) for iteration in range(40)]
    assert [i for i, of in enumerate(phases) if PATH_LENGTH in of] == list(range(0, 40, 4))
    assert [i for i, of in enumerate(phases) if R1 in of] == [0, 16, 32]
    assert phases[0] == (GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1)
    assert phases[1] == (GENERATOR, DISCRIMINATOR)
    assert PATH_LENGTH not in AdversarialObjective(path_length_interval=0).phases(0)


def test_learning_rates_are_those_of_lazy_regularisation() -> None:
    of_generator, of_discriminator = training().configure_optimizers()
    assert of_generator.param_groups[0]["lr"] == pytest.approx(0.0025 * 4 / 5)
    assert of_discriminator.param_groups[0]["lr"] == pytest.approx(0.0025 * 16 / 17)
    assert of_generator.param_groups[0]["betas"] == pytest.approx((0.0, 0.99 ** (4 / 5)))


@pytest.mark.parametrize("phase", [GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1])
def test_a_phase_teaches_one_network(phase: str) -> None:
    model = training().train()
    network, compute_loss = model.networks_and_losses()[phase]
    with model._learning(network):
        compute_loss(batch()).total.backward()
    taught = {
        name
        for name, network in (("generator", model.generator), ("discriminator", model.discriminator))
        if any(p.grad is not None and p.grad.any() for p in network.parameters())
    }
    assert taught == {"generator" if phase in (GENERATOR, PATH_LENGTH) else "discriminator"}


def test_the_generators_loss_by_hand() -> None:
    """With neither noise nor latents nor crops, every part can be computed from the networks themselves."""
    numbers = {"latents": "zeros", "perturbation": 0.0, "smallest_crop": 1.0}
    model = training(head_scale=3.0, clip_scale=2.0, image_scale=0.5, real_scale=0.25, **numbers).eval()
    shown = batch()
    loss = model.generator_loss(shown)
    image, caption = (F.normalize(part, dim=1) for part in model.conditions(shown))
    with torch.no_grad():
        made = model.generator(torch.zeros(BATCH, 5), image, caption, noise="fixed")
        logits, heads = model.discriminator(made, image, caption)
        of_real = model.discriminator(2 * shown["images"] - 1, image, caption).semantics
        seen = model.embed(made)

    def match(first: Tensor, second: Tensor) -> Tensor:
        cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / 0.5
        return (cosines.diagonal() - cosines.logsumexp(0)).mean()  # which of the first is the partner of each second

    wanted = (
        generator_loss(logits)
        - 3.0 * (match(heads[0], image) + match(heads[1], caption)) / 2
        - 2.0 * (match(seen, image) + match(seen, caption)) / 2
        - 0.5 * match(seen, shown["image"][:, 0])
        - 0.25 * (match(of_real[0], heads[0]) + match(of_real[1], heads[1])) / 2
    )
    # Noise has no strength before anything is learned, so that drawing it changes nothing.
    torch.testing.assert_close(loss.total, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.stack(list(loss.parts.values())).sum(), loss.total.detach())


@pytest.mark.parametrize("latents", ["random", "zeros_mixed", "zeros"])
def test_main_latent(latents: str) -> None:
    model = training(latents=latents, mixing_probability=1.0).train()
    torch.manual_seed(0)
    styles = model._styles(BATCH).detach()  # (B, L, W)
    same = (styles == styles[:1]).all(-1)  # (B, L): as of the first image
    if latents == "zeros":
        assert same.all()
    elif latents == "random":
        assert not same[1:].any()
    else:
        assert same[:, 0].all()
        assert not same[1:, -1].any()


def test_a_crop_is_a_square_of_at_least_half_the_side() -> None:
    model = training()
    ramp = torch.arange(SIDE).float().expand(1, 3, SIDE, SIDE)
    torch.manual_seed(0)
    spans = [(crop.amax() - crop.amin()).item() for crop in (model._cropped(ramp) for _ in range(50))]
    assert all(SIDE / 2 - 2 <= span <= SIDE for span in spans)
    assert len({round(span) for span in spans}) > 3


def test_the_average_follows_with_its_half_life() -> None:
    objective = AdversarialObjective()
    assert objective.average_decay(16, 10**9) ** (5000 / 16) == pytest.approx(0.5)
    assert AdversarialObjective(average_rampup=0.05).average_decay(16, 320) == pytest.approx(0.5)
    model = training(average_half_life=float(BATCH))
    before = state(model.averaged)
    for parameter in model.generator.parameters():
        parameter.data += 1
    model.iteration += 1
    model._average(BATCH)
    for name, averaged in model.averaged.named_parameters():
        torch.testing.assert_close(averaged, before[name] + 0.5)


def test_nonfinite_gradients_do_not_reach_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = training()
    monkeypatch.setattr(model, "discriminator_loss", lambda shown: _poisoned(model, shown))
    fitted(model, 1, tmp_path)
    assert all(p.isfinite().all() for p in model.parameters())


def _poisoned(model: AdversarialTraining, shown: ImageBatch):  # type: ignore[no-untyped-def]
    loss = AdversarialTraining.discriminator_loss(model, shown)
    loss.total = loss.total * float("nan")
    return loss


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[AdversarialTraining, AdversarialTraining]:
    """A training of two epochs in one go, and one that was stopped after the first."""
    whole, first, second = (training(path_length_interval=2, r1_interval=2) for _ in range(3))
    fitted(whole, 2, tmp_path / "whole")
    fitted(first, 1, tmp_path / "parts")
    fitted(second, 2, tmp_path / "parts", going_on=True)
    assert (tmp_path / "parts" / "generated.png").stat().st_size > 0
    return whole, second


def test_a_stopped_training_ends_in_the_same_weights(stopped: tuple[AdversarialTraining, AdversarialTraining]) -> None:
    whole, resumed = stopped
    assert int(whole.iteration) == 6
    assert whole.path_length > 0
    assert set(whole.state_dict()) == set(resumed.state_dict())
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert not any("map" in key.split(".") for key in whole.state_dict())  # CLIP is in no checkpoint
    assert whole.shown is not None
    assert whole.shown.shape == (3 * BATCH, 2, 3, SIDE, SIDE)


def test_half_precision_trains(tmp_path: Path) -> None:
    model = training()
    before = state(model.generator), state(model.discriminator)
    fitted(model, 1, tmp_path, precision="bf16-mixed")
    assert all(p.isfinite().all() for p in model.parameters())
    assert differs(before[0], model.generator)
    assert differs(before[1], model.discriminator)


@pytest.mark.parametrize("condition", ["image", "caption", "signed_maximum"])
def test_other_conditions_train(condition: str, tmp_path: Path) -> None:
    model = training(condition)
    before = state(model.averaged)
    fitted(model, 1, tmp_path)
    assert differs(before, model.averaged)
