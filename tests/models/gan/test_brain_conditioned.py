"""The generator's training on brains: what its conditions are, and who learns."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.gan import generator_loss
from mindeye_pl.models.gan.brain_conditioned import BrainConditioned
from mindeye_pl.models.gan.objective import DISCRIMINATOR, GENERATOR, PATH_LENGTH, R1, AdversarialObjective
from mindeye_pl.models.mind_reader import MindReader
from mindeye_pl.nn.stylegan2.networks import build_discriminator, build_generator
from mindeye_pl.types import ImageBatch
from tests.models.gan.test_training import BATCH, SIZES, WIDTH, Embedder, batch, state
from tests.models.tiny import mapper

VOXELS = 10


def training(mappers: str = "frozen", **numbers: object) -> BrainConditioned:
    torch.manual_seed(0)
    make = partial(mapper, [VOXELS], WIDTH, hidden_dim=3)
    sizes = SIZES | {"condition": "both"}
    return BrainConditioned(
        build_generator(sizes),
        build_discriminator(sizes),
        Embedder(),
        AdversarialObjective(**numbers),  # type: ignore[arg-type]
        MindReader(make(), make()),
        mappers=mappers,
    )


def trials() -> ImageBatch:
    drawn = torch.Generator().manual_seed(5)
    return ImageBatch(batch().rows | {"voxels": torch.randn(BATCH, VOXELS, generator=drawn)})


def test_conditions_are_the_mappers_predictions() -> None:
    model, shown = training(), trials()
    image, caption = model.conditions(shown)
    torch.testing.assert_close(image, model.brain_decoder.image_mapper(shown["voxels"]))  # type: ignore[operator]
    torch.testing.assert_close(caption, model.brain_decoder.caption_mapper(shown["voxels"]))  # type: ignore[operator]
    assert not image.requires_grad
    pixels = ImageBatch(shown.rows | {"images": torch.rand(BATCH, 3, 16, 16), "image": shown["image"].roll(1, 0)})
    torch.testing.assert_close(model.conditions(pixels)[0], image)


def test_frozen_mappers_do_not_learn() -> None:
    model = training().train()
    model.on_train_epoch_start()
    assert not model.brain_decoder.training
    before = state(model.brain_decoder)
    for phase in model.phases():
        network, compute_loss = model.networks_and_losses()[phase]
        with model._learning(network):
            compute_loss(trials()).total.backward()
    assert all(p.grad is None for p in model.brain_decoder.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.brain_decoder.state_dict().items())
    assert len(model.configure_optimizers()) == 2


def gradients(model: BrainConditioned, phase: str) -> dict[str, bool]:
    """Which of the three networks a phase teaches."""
    model.zero_grad()
    network, compute_loss = model.networks_and_losses()[phase]
    with model._learning(network):
        compute_loss(trials()).total.backward()
    networks = {"generator": model.generator, "discriminator": model.discriminator, "mappers": model.brain_decoder}
    return {
        name: any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
        for name, network in networks.items()
    }


def test_end_to_end_the_mappers_are_trained_in_a_separate_phase() -> None:
    model = training("trained").train()
    assert model.phases() == (GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1, "mappers")
    assert len(model.configure_optimizers()) == 3
    for phase in (GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1):
        assert not gradients(model, phase)["mappers"]
    assert gradients(model, "mappers") == {"generator": False, "discriminator": False, "mappers": True}


def test_the_mappers_loss_by_hand() -> None:
    """0.2 squared error, 0.3 cosine and 0.5 InfoNCE of each mapper, and a tenth of how unreal the image is."""
    model, shown = training("trained", latents="zeros", perturbation=0.0).eval(), trials()
    image, caption = model.conditions(shown)
    wanted_image, wanted_caption = shown["image"][:, 0], F.normalize(shown["captions"].sum(1), dim=1)

    def of_mapper(predicted: Tensor, target: Tensor) -> Tensor:
        cosines = F.normalize(predicted, dim=1) @ F.normalize(target, dim=1).T
        own = torch.arange(BATCH)
        info_nce = (F.cross_entropy(cosines / 0.5, own) + F.cross_entropy(cosines.T / 0.5, own)) / 2
        return 0.2 * F.mse_loss(predicted, target) + 0.3 * (1 - cosines.diagonal().mean()) + 0.5 * info_nce

    conditions = F.normalize(image, dim=1), F.normalize(caption, dim=1)
    made = model.generator(torch.zeros(BATCH, 5), *conditions, noise="fixed")
    realness = 0.1 * generator_loss(model.discriminator(made, *conditions).logits)
    wanted = of_mapper(image, wanted_image) + of_mapper(caption, wanted_caption) + realness
    torch.testing.assert_close(model.mapper_loss(shown).total, wanted)
