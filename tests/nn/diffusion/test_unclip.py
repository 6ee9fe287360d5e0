"""The unCLIP: images belong to their seeds, solvers agree, guidance and training do what they say."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.diffusion.builders import build_unet, random_unclip
from mindeye_pl.nn.diffusion.fourier import grid_positions
from mindeye_pl.nn.diffusion.solvers import SOLVERS, euler_published, training_sigmas
from mindeye_pl.nn.diffusion.unclip import PIXELS, UnCLIPModel

UNET = {
    "channels": [8, 16],
    "transformer_depth": [1, 1],
    "head_dim": 8,
    "size_dim": 16,
    "layers_per_block": 1,
    "groups": 4,
    "token_dim": 12,
    "num_tokens": 4,
    "packing": 2,
    "token_positions": True,
}
VAE = {"channels": [4, 8], "latent_channels": 4, "layers_per_block": 1, "groups": 4, "image_size": 32}


@pytest.fixture(scope="module")
def unclip() -> UnCLIPModel:
    return random_unclip(0, UNET, VAE)


def images(unclip: UnCLIPModel, tokens: Tensor, seeds: list[int], **settings: object) -> Tensor:
    chosen = {"steps": 4, "guidance": 2.0, "solver": "euler_published"} | settings
    null = unclip.uncond_tokens(seeds, tokens.shape[1])
    return unclip.decode(unclip.sample(tokens, noise=unclip.start(seeds), uncond_tokens=null, **chosen))  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("batch", [1, 4, 7])
def test_an_image_does_not_depend_on_its_batch(unclip: UnCLIPModel, solver: str, batch: int) -> None:
    seeds = list(range(100, 108))
    tokens = torch.randn(8, 4, 12, generator=torch.Generator().manual_seed(1))
    whole = images(unclip, tokens, seeds, solver=solver)
    parts = [images(unclip, tokens[i : i + batch], seeds[i : i + batch], solver=solver) for i in range(0, 8, batch)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=0)


def test_weights_in_half_precision_compute_in_float32_on_a_cpu(unclip: UnCLIPModel) -> None:
    half, tokens = deepcopy(unclip), torch.randn(1, 4, 12)
    half.unet.half()
    rounded = deepcopy(half)
    rounded.unet.float()
    torch.testing.assert_close(images(half, tokens, [7]), images(rounded, tokens, [7]))


def test_other_seeds_give_other_images(unclip: UnCLIPModel) -> None:
    tokens = torch.zeros(2, 4, 12)
    one, other = images(unclip, tokens, [1, 2])
    assert (one - other).abs().max() > 0.01


def test_no_two_streams_of_an_image_are_the_same() -> None:
    """Starting noise, null tokens and the noise of an init image's posterior, all of the same length."""
    model = random_unclip(0, UNET | {"packing": 1}, VAE)
    model.null_tokens, model.unconditional = None, "random"
    count, width = model.start([7]).numel(), UNET["token_dim"]
    assert isinstance(width, int)
    streams = [model.start([7]), model.uncond_tokens([7], -(-count // width)), model.posterior_noise([7])]
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.randn(count, generator=generator) for _ in range(2)]  # what the start is made of
    together = torch.stack([part.flatten()[:count] for part in (*drawn, *streams[1:])])
    assert together.corrcoef().fill_diagonal_(0).abs().max() < 0.15
    assert torch.equal(model.uncond_tokens([7, 8], 4)[1:], model.uncond_tokens([8], 4))


def test_euler_equals_the_textbook_formula(unclip: UnCLIPModel) -> None:
    """A second implementation in five lines, guidance 1."""
    tokens, noise = torch.randn(2, 4, 12), unclip.start([3, 4])
    sigmas, times = euler_published(6).sigmas, euler_published(6).timesteps
    x, vector = noise * (1 + sigmas[0] ** 2).sqrt(), unclip.size_vector().expand(2, -1)
    with torch.no_grad():
        for time, sigma, after in zip(times, sigmas[:-1], sigmas[1:], strict=True):
            noise_seen = unclip.denoise(x / (1 + sigma**2).sqrt(), time.expand(2), tokens, vector)
            x = x + (after - sigma) * noise_seen
    torch.testing.assert_close(unclip.sample(tokens, noise=noise, steps=6, guidance=1), x, atol=1e-4, rtol=1e-4)


def test_init_latents_are_noised_and_denoised(unclip: UnCLIPModel) -> None:
    """Image to image in five lines, the last four of six Euler steps."""
    tokens, noise, init = torch.randn(2, 4, 12), unclip.start([3, 4]), torch.randn(2, *unclip.latent_shape)
    sigmas, times = euler_published(6).sigmas[2:], euler_published(6).timesteps[2:]
    x, vector = init + sigmas[0] * noise, unclip.size_vector().expand(2, -1)
    with torch.no_grad():
        for time, sigma, after in zip(times, sigmas[:-1], sigmas[1:], strict=True):
            x = x + (after - sigma) * unclip.denoise(x / (1 + sigma**2).sqrt(), time.expand(2), tokens, vector)
    settings = {"noise": noise, "steps": 6, "guidance": 1, "init_latents": init}
    torch.testing.assert_close(unclip.sample(tokens, strength=0.7, **settings), x, atol=1e-4, rtol=1e-4)  # type: ignore[arg-type]
    for solver in SOLVERS:
        assert torch.equal(unclip.sample(tokens, strength=0.0, solver=solver, **settings), init)  # type: ignore[arg-type]
        near = unclip.sample(tokens, strength=0.2, solver=solver, **settings)  # type: ignore[arg-type]
        far = unclip.sample(tokens, strength=1.0, solver=solver, **settings)  # type: ignore[arg-type]
        assert (near - init).abs().mean() < (far - init).abs().mean()
        settings.pop("init_latents")
        torch.testing.assert_close(unclip.sample(tokens, solver=solver, **settings), far)  # type: ignore[arg-type]
        settings["init_latents"] = init


def test_guidance_of_one_ignores_the_null_tokens(unclip: UnCLIPModel) -> None:
    tokens, noise = torch.randn(1, 4, 12), unclip.start([3])
    given = unclip.sample(tokens, noise=noise, uncond_tokens=torch.randn(1, 4, 12), steps=3, guidance=1)
    torch.testing.assert_close(given, unclip.sample(tokens, noise=noise, steps=3, guidance=1))


def test_solvers_go_to_the_same_place() -> None:
    """With the exact noise of one known image, every solver finds that image."""
    model = random_unclip(0, UNET, VAE)
    clean = 0.5 * torch.randn(1, *model.latent_shape)
    sigmas = training_sigmas().float()

    def exact(latents: Tensor, timesteps: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        sigma = sigmas[timesteps.long()].view(-1, 1, 1, 1)
        return (latents * (1 + sigma**2).sqrt() - clean) / sigma

    model.denoise = exact  # type: ignore[method-assign]
    for solver in SOLVERS:
        found = model.sample(torch.zeros(1, 4, 12), noise=model.start([0]), steps=20, guidance=1, solver=solver)
        left = float(SOLVERS[solver](20).sigmas[-1])  # noise over signal where the solver ends
        torch.testing.assert_close(found, clean, atol=0.05 + 4 * left, rtol=0, msg=solver)


def test_loss_is_zero_for_the_exact_noise_and_reaches_the_null_tokens() -> None:
    model = random_unclip(0, UNET, VAE).requires_grad_(True)
    latents, tokens = torch.randn(4, *model.latent_shape), torch.randn(4, 4, 12)
    model.loss(latents, tokens, model.size_vector(), offset=0.04, drop=1.0).backward()
    assert model.null_tokens is not None
    assert model.null_tokens.grad is not None
    assert model.null_tokens.grad.abs().sum() > 0


def test_output_transforms() -> None:
    decoded = torch.tensor([-2.0, -1.0, 0.0, 1.0])
    torch.testing.assert_close(PIXELS["published"](decoded), torch.tensor([0.0, 0.0, 0.2, 1.0]))
    torch.testing.assert_close(PIXELS["corrected"](decoded), torch.tensor([0.0, 0.0, 0.5, 1.0]))


def test_paper_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        unet = build_unet(
            channels=(320, 640, 1280),
            transformer_depth=(0, 2, 10),
            head_dim=64,
            token_dim=1664,
            size_dim=1024,
            latent_channels=4,
            latent_size=96,
        )
    assert sum(p.numel() for p in unet.parameters()) == 2_501_272_324
    assert len(unet.state_dict()) == 1680
    keys = [key for key in unet.state_dict() if "attn2.to_k" in key or "attn2.to_v" in key]
    assert len(keys) == 140


def test_positions_tell_tokens_apart() -> None:
    """Without them attention sees a set of tokens; with them their order counts."""
    places = grid_positions(16, 12)
    assert torch.cdist(places, places).fill_diagonal_(9).min() > 0.5
    torch.testing.assert_close(places.square().mean(), torch.tensor(1.0), atol=0.2, rtol=0)
    latents, times, tokens = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 4, 12)
    for positions in (False, True):
        model = random_unclip(3, UNET | {"token_positions": positions}, VAE)
        latents = torch.randn(1, *model.latent_shape)
        with torch.no_grad():
            first, turned = (model.denoise(latents, times, t, model.size_vector()) for t in (tokens, tokens.flip(1)))
        assert torch.allclose(first, turned, atol=1e-5) != positions
