"""The distillation of an unCLIP: what is learned, where it begins, and what a perfect student's loss is."""

import copy
import random

import pytest
import torch
from torch import Tensor

from mindeye_pl.models.distillation import Drafts, Teacher, UnCLIPDistillation
from mindeye_pl.nn.diffusion.builders import random_unclip
from mindeye_pl.nn.diffusion.regressed_tokens import RegressedTokens
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import ImageBatch
from tests.nn.diffusion.test_unclip import UNET, VAE
from tests.training.test_synchronisation import Synchronisations

STEPS, SUBSTEPS, GUIDANCE, BATCH = 3, 2, 3.0, 4
TOKENS = (4, 12)


def unclip(seed: int = 0) -> UnCLIPModel:
    """An untrained unCLIP whose null tokens are not zero."""
    model = random_unclip(seed, UNET, VAE)
    assert model.null_tokens is not None
    torch.nn.init.normal_(model.null_tokens, generator=torch.Generator().manual_seed(seed))
    return model


def batch(network: UnCLIPModel) -> ImageBatch:
    channels, height, width = network.latent_shape
    moments = torch.randn(BATCH, 2 * channels, height * width)
    return ImageBatch({"tokens": torch.randn(BATCH, *TOKENS), "moments": moments})


def distillation(network: UnCLIPModel, teacher: UnCLIPModel, **options: object) -> UnCLIPDistillation:
    taught = Teacher(teacher, guidance=GUIDANCE, steps=SUBSTEPS)
    return UnCLIPDistillation(network, taught, steps=STEPS, max_lr=1e-3, **options)  # type: ignore[arg-type]


def drafts(network: UnCLIPModel, share: float = 1.0, strength: float = 0.7) -> Drafts:
    channels, height, width = network.latent_shape
    rows = torch.randn(16, channels, height * width)
    return Drafts(share, strength, RegressedTokens(rows, share=1.0, noise=(1.0, 1.0), components=4))


def test_the_segments_of_the_teacher_are_its_sampler() -> None:
    """With a solver of first order, which has no memory, segments together are the whole trajectory."""
    network = unclip()
    teacher = Teacher(network, guidance=GUIDANCE, steps=SUBSTEPS, solver="ddim")
    tokens, noise = batch(network)["tokens"], network.start(range(BATCH))
    latents = noise
    for step in range(STEPS):
        latents = teacher.follow(latents, tokens, of=STEPS, begin=step, end=step + 1)
    null = network.uncond_tokens(range(BATCH), tokens.shape[1])
    options = {"steps": STEPS * SUBSTEPS, "guidance": GUIDANCE, "solver": "euler_published"}
    sampled = network.sample(tokens, noise=noise, uncond_tokens=null, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(latents, sampled, atol=1e-2, rtol=1e-2)  # timesteps are rounded in another direction


def test_the_students_solver_is_euler_at_unit_variance() -> None:
    network = unclip()
    tokens, noise = batch(network)["tokens"], network.start(range(BATCH))
    drawn = [
        network.sample(tokens, noise=noise, steps=4, guidance=1, solver=name) for name in ("ddim", "euler_published")
    ]
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_the_student_is_sampled_as_it_was_trained() -> None:
    model = distillation(network := unclip(), unclip())
    tokens, noise = batch(network)["tokens"], network.start(range(BATCH))
    sampled = network.sample(tokens, noise=noise, steps=STEPS, guidance=1, solver="ddim")
    followed = model.follow(noise, tokens, begin=0, end=STEPS)
    assert followed.requires_grad
    torch.testing.assert_close(followed.detach(), sampled)


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("strength", [0.4, 0.7, 1.0])
def test_drafts_begin_where_the_strength_says(strength: float, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student follows from the sampler's first step to the step that learns, and never begins later."""
    model = distillation(network := unclip(), unclip(), drafts=drafts(unclip(), strength=strength))
    first = STEPS - min(int(STEPS * strength), STEPS)
    followed: list[tuple[int, int]] = []
    follow = UnCLIPDistillation.follow

    def watched(self: UnCLIPDistillation, *args: Tensor, begin: int, end: int) -> Tensor:
        followed.append((begin, end))
        return follow(self, *args, begin=begin, end=end)

    monkeypatch.setattr(random, "randrange", lambda _: step)
    monkeypatch.setattr(UnCLIPDistillation, "follow", watched)
    model.train().compute_loss(batch(network))
    assert followed == [(first if step >= first else 0, step), (step, step + 1)]


def test_a_student_that_equals_its_teacher_has_no_loss() -> None:
    """One step of the teacher in one of the student's, both of first order, and no guidance."""
    teacher = Teacher(unclip(), guidance=1.0, steps=1, solver="ddim")
    model = UnCLIPDistillation(unclip(), teacher, steps=STEPS, max_lr=1e-3, drafts=drafts(unclip(), share=0.5))
    given = batch(model.network)
    for _ in range(6):
        assert model.train().compute_loss(given).total < 1e-8
    assert model.eval().compute_loss(given).total < 1e-8


def test_training_approaches_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda _: 0)
    torch.manual_seed(0)
    model = distillation(network := unclip(), unclip())
    given = batch(network)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(30):
        torch.manual_seed(0)
        losses.append(model.train().compute_loss(given).total)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_only_the_student_learns_and_is_kept() -> None:
    model = distillation(network := unclip(), unclip(), drafts=drafts(unclip(), share=0.5))
    assert {name.partition(".")[0] for name in model.state_dict()} == {"network"}
    assert copy.deepcopy(model).teacher.network is model.teacher.network
    learned = {name for name, value in network.named_parameters() if value.requires_grad}
    assert learned == {name for name, _ in network.named_parameters() if name.startswith("unet.")} | {"token_positions"}
    model.train().compute_loss(batch(network)).total.backward()
    assert {name for name, value in network.named_parameters() if value.grad is not None} == learned
    assert all(value.grad is None for value in model.teacher.network.parameters())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_step_does_not_wait_for_the_device(share: float) -> None:
    model = distillation(network := unclip(), unclip(), drafts=drafts(unclip(), share=share))
    given, counted = batch(network), Synchronisations()
    counted.by_step.append([])
    with counted:
        for _ in range(4):
            model.train().compute_loss(given).total.backward()
    assert counted.by_step == [[]]
