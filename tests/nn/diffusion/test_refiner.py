"""Refinement: where it starts, its steps against a second implementation, its input, batches, and the blend."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file

from mindeye_pl.nn.diffusion.refiner import BEGIN, STEPS, Refiner, blend
from mindeye_pl.nn.diffusion.solvers import euler_published, training_sigmas
from mindeye_pl.weights.registry import load_published
from tests.weights.formats.test_sdxl_base import OPTIONS, sdxl_state

CAPTIONS = ["a red dog", "a blue cat on a mat", "a kite"]
NEGATIVE = "painting, anime"


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Refiner:
    path = tmp_path_factory.mktemp("sdxl") / "sd_xl_base_1.0.safetensors"
    save_file({key: value.contiguous().clone() for key, value in sdxl_state().items()}, path)
    return load_published("sdxl_base", path, **OPTIONS)


def test_refinement_starts_at_the_published_timestep() -> None:
    scheduler = euler_published(STEPS)
    assert float(scheduler.sigmas[BEGIN]) == pytest.approx(1.50919, abs=1e-5)
    assert scheduler.timesteps[BEGIN:].tolist() == [479, 439, 399, 359, 319, 279, 239, 199, 159, 119, 79, 39]


@torch.no_grad()
def test_steps_against_a_plain_loop(refiner: Refiner) -> None:
    """Euler's rule written out, one image at a time and without diffusers' scheduler."""
    torch.manual_seed(0)
    images, noise = torch.rand(2, 3, 64, 64), refiner.noise([4, 5])
    seen = refiner.refine(images, CAPTIONS[:2], noise=noise, guidance=3.0, negative_prompt=NEGATIVE)
    scale, table = refiner.vae.config["scaling_factor"], training_sigmas().float()
    times = [479, 439, 399, 359, 319, 279, 239, 199, 159, 119, 79, 39]
    sigmas = [*table[times], torch.tensor(0.0)]
    for index, caption in enumerate(CAPTIONS[:2]):
        posterior = refiner.vae.encode(2 * images[index : index + 1] - 1).latent_dist
        latents = scale * (posterior.mean + posterior.std * noise[0, index]) + sigmas[0] * noise[1, index]
        conditions = [refiner.condition([words]) for words in (NEGATIVE, caption)]
        for time, sigma, following in zip(times, sigmas[:-1], sigmas[1:], strict=True):
            without, given = (
                refiner.unet(
                    latents / (1 + sigma**2).sqrt(), time, encoder_hidden_states=hidden, class_labels=vector
                ).sample
                for hidden, vector in conditions
            )
            latents = latents + (following - sigma) * (without + 3.0 * (given - without))
        wanted = (refiner.vae.decode(latents / scale).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(seen[index : index + 1], wanted, atol=1e-3, rtol=0)


def test_weights_in_half_precision_compute_in_float32_on_a_cpu(refiner: Refiner) -> None:
    half = deepcopy(refiner).half()
    rounded = deepcopy(half).float()
    images, noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)), refiner.noise([7])
    torch.testing.assert_close(
        half.refine(images, CAPTIONS[:1], noise=noise), rounded.refine(images, CAPTIONS[:1], noise=noise)
    )


def test_an_image_does_not_depend_on_batch_size(refiner: Refiner) -> None:
    images, seeds = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)), [7, 8, 9]
    together = refiner.refine(images, CAPTIONS, noise=refiner.noise(seeds))
    for index, seed in enumerate(seeds):
        alone = refiner.refine(images[index : index + 1], CAPTIONS[index : index + 1], noise=refiner.noise([seed]))
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=0)
    smaller = refiner.refine(images[:1, :, ::2, ::2], CAPTIONS[:1], noise=refiner.noise([7]))
    assert smaller.shape == (1, 3, 64, 64)


def test_a_stored_image_is_enlarged_again_as_published(refiner: Refiner) -> None:
    """Shrunk without antialiasing, which takes single pixels here, and enlarged by bilinear interpolation."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    how = {"noise": refiner.noise([1, 2]), "negative_prompt": NEGATIVE}
    small = refiner.refine(images, CAPTIONS[:2], **how, input_size=16)
    between = images.unflatten(2, (16, 4)).unflatten(4, (16, 4))[:, :, :, 1:3, :, 1:3].mean((3, 5))  # (2, 3, 16, 16)
    torch.testing.assert_close(small, refiner.refine(between, CAPTIONS[:2], **how), atol=1e-4, rtol=0)
    whole = refiner.refine(images, CAPTIONS[:2], **how)
    assert torch.equal(whole, refiner.refine(images, CAPTIONS[:2], **how, input_size=64))
    assert (whole - small).abs().mean() > 1e-3


def test_the_negative_prompt_changes_the_image(refiner: Refiner) -> None:
    images, noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)), refiner.noise([1])
    one, other = (
        refiner.refine(images, CAPTIONS[:1], noise=noise, negative_prompt=prompt) for prompt in ("", NEGATIVE)
    )
    assert not torch.allclose(one, other)


def test_blend_is_a_weighted_mean_at_the_refined_size() -> None:
    refined, blurry = torch.rand(2, 3, 16, 16), torch.full((2, 3, 8, 8), 0.5)
    torch.testing.assert_close(blend(refined, blurry, 0.25), 0.75 * refined + 0.125)
    assert torch.equal(blend(refined, blurry, 0.0), refined)
