"""Versatile Diffusion's image flow out of a folder that diffusers wrote, against diffusers' own parts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel, UniPCMultistepScheduler
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor

from mindeye_pl.config import compose_config
from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.weights.formats.renaming import older_attention_names
from mindeye_pl.weights.loaders.versatile_diffusion import load_versatile_diffusion
from mindeye_pl.weights.registry import load_published, save_published

TOKENS, WIDTH, SIDE = 5, 12, 16
#: As the repository's scheduler folder says; MindEye1 made a UniPC of it.
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    ).eval()


@pytest.fixture(scope="module")
def parts() -> tuple[UNet2DConditionModel, AutoencoderKL]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
        )
        return unet(), vae.eval()


@pytest.fixture
def folder(parts: tuple[UNet2DConditionModel, AutoencoderKL], tmp_path: Path) -> Path:
    for name, part in zip(("image_unet", "vae"), parts, strict=True):
        part.save_pretrained(tmp_path / "vd" / name)
    return tmp_path / "vd"


def test_both_models_come_back_from_either_format(
    parts: tuple[UNet2DConditionModel, AutoencoderKL], folder: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    for name, part in zip(("image_unet", "vae"), parts, strict=True):
        part.save_pretrained(older / name, safe_serialization=False)
    state = parts[1].state_dict()
    for half in ("encoder.", "decoder."):
        for old, new in older_attention_names(half, half).items():
            state = {key.replace(new, old): value for key, value in state.items()}
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in state
    torch.save(state, older / "vae" / "diffusion_pytorch_model.bin")
    for place in (folder, older):
        model = load_published("versatile_diffusion", place)
        assert isinstance(model, UnCLIPModel)
        for own, theirs in zip((model.unet, model.vae), parts, strict=True):
            assert own.state_dict().keys() == theirs.state_dict().keys()
            assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in own.state_dict().items())
        assert (model.image_size, model.latent_shape) == ((SIDE, SIDE), (4, SIDE // 2, SIDE // 2))
        assert model.vae.config["scaling_factor"] == 0.18215
        assert not model.uses_sizes
        assert model.size_vector() is None
    one = load_versatile_diffusion(*(older / name / "diffusion_pytorch_model.bin" for name in ("image_unet", "vae")))
    assert all(torch.equal(value, one.state_dict()[key]) for key, value in model.state_dict().items())


@torch.no_grad()
def published_image(
    parts: tuple[UNet2DConditionModel, AutoencoderKL],
    tokens: Tensor,
    noise: Tensor,
    blurry: Tensor | None,
    posterior: Tensor,
) -> Tensor:
    """The published script in plain diffusers: 20 steps, guidance 3.5, image to image at strength 0.85."""
    net, vae = parts
    scheduler = UniPCMultistepScheduler(**SCHEDULER, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(20)
    times, latents = scheduler.timesteps, noise * scheduler.init_noise_sigma
    if blurry is not None:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        seen = vae.encode((blurry - mean) / std).latent_dist
        times = times[20 - min(int(20 * 0.85), 20) :]
        assert len(times) == 17
        latents = scheduler.add_noise(0.18215 * (seen.mean + seen.std * posterior), noise, times[:1])
    for time in times:
        both = net(torch.cat([latents] * 2), time, torch.cat([torch.zeros_like(tokens), tokens])).sample
        without, given = both.chunk(2)
        latents = scheduler.step(without + 3.5 * (given - without), time, latents).prev_sample
    return (vae.decode(latents / 0.18215).sample / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("draft", [False, True], ids=["from noise", "image to image"])
def test_images_are_those_of_a_plain_loop_of_diffusers(
    parts: tuple[UNet2DConditionModel, AutoencoderKL], folder: Path, draft: bool
) -> None:
    model, seeds = load_published("versatile_diffusion", folder), [3, 9]
    tokens, blurry = torch.randn(2, TOKENS, WIDTH), torch.rand(2, 3, SIDE, SIDE) if draft else None
    settings = compose_config(["unclip=versatile_diffusion"]).unclip
    model.sampling = Sampling(
        settings.solver,
        settings.steps,
        settings.guidance,
        settings.offset,
        strength=settings.strength,
        draft_range=settings.draft_range,
        draft_posterior=settings.draft_posterior,
    )
    start, posterior = model.start(seeds, offset=0.0), model.posterior_noise(seeds)
    expected = published_image(parts, tokens, start, blurry, posterior)
    found = model.draw(tokens, seeds, blurry)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.std() > 0.01


class Dual(DualTransformer2DModel):
    """Called as today's UNets call their attention, which the class has not followed."""

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> object:
        return super().forward(hidden_states, encoder_hidden_states, return_dict=False)


def test_a_mix_ratio_of_0_is_the_image_flow_alone(
    parts: tuple[UNet2DConditionModel, AutoencoderKL], folder: Path
) -> None:
    model = load_published("versatile_diffusion", folder)
    dual, text = (UNet2DConditionModel.from_config(parts[0].config).eval() for _ in range(2))
    dual.load_state_dict(parts[0].state_dict())
    for name, module in list(dual.named_modules()):
        if isinstance(module, Transformer2DModel):
            config = module.config
            both = Dual(
                config.num_attention_heads,
                config.attention_head_dim,
                config.in_channels,
                norm_num_groups=config.norm_num_groups,
                cross_attention_dim=config.cross_attention_dim,
            )
            both.transformers = torch.nn.ModuleList([module, text.get_submodule(name)])
            both.mix_ratio, both.condition_lengths, both.transformer_index_for_condition = 0.0, [77, TOKENS], [1, 0]
            parent, index = name.rsplit(".", 1)
            dual.get_submodule(parent)[int(index)] = both  # type: ignore[operator]
    latents, tokens = torch.randn(2, *model.latent_shape), torch.randn(2, TOKENS, WIDTH)
    times = torch.tensor([300, 900])
    with torch.no_grad():
        expected = dual(latents, times, torch.cat([torch.zeros(2, 77, WIDTH), tokens], dim=1)).sample
        torch.testing.assert_close(model.denoise(latents, times, tokens), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_range_of_the_draft_and_its_posterior(folder: Path) -> None:
    model = load_published("versatile_diffusion", folder)
    images, seeds = torch.rand(2, 3, SIDE, SIDE), [1, 2]
    corrected, published = model.encode(images), model.encode(images, draft_range="published")
    torch.testing.assert_close(corrected, 0.18215 * model.vae.encode(2 * images - 1).latent_dist.mean)
    assert not torch.allclose(corrected, published, atol=1e-3)
    noise = model.posterior_noise(seeds)
    sampled = model.encode(images, noise=noise)
    std = 0.18215 * model.vae.encode(2 * images - 1).latent_dist.std
    torch.testing.assert_close((sampled - corrected) / std, noise, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(noise, model.start(seeds, offset=0.0), atol=0.1)
    torch.testing.assert_close(model.posterior_noise(seeds[1:]), noise[1:])
    assert not model.uncond_tokens(seeds, TOKENS).any()


def test_the_blurry_image_alone_at_strength_0(folder: Path) -> None:
    model, blurry = load_published("versatile_diffusion", folder), torch.rand(2, 3, 8, 8)
    model.sampling = Sampling("unipc_published", 4, 3.5, 0.0, strength=0.0, draft_range="published")
    found = model.draw(torch.randn(2, TOKENS, WIDTH), [1, 2], blurry)
    assert torch.equal(found, F.interpolate(blurry, (SIDE, SIDE), mode="bilinear"))


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_other_folders_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    def refused(place: Path, words: str) -> None:
        with pytest.raises(UserError, match=words) as found:
            load_published("versatile_diffusion", place)
        assert "\n" not in str(found.value)

    refused(tmp_path / "nowhere", "image_unet holds no weights .*no folder")
    place = broken("no_weights")
    (place / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    refused(place, r"vae holds no weights .*diffusion_pytorch_model\.safetensors or")
    place = broken("no_config")
    (place / "image_unet" / "config.json").unlink()
    refused(place, r"image_unet/config\.json does not exist")
    place = broken("text")
    rewrite(place / "image_unet" / "config.json", _class_name="UNetFlatConditionModel")
    refused(place, "another model's .*UNetFlatConditionModel")
    place = broken("dual")
    rewrite(place / "image_unet" / "config.json", dual_cross_attention=True)
    refused(place, "not the image flow alone .*dual_cross_attention")
    place = broken("wide")
    rewrite(place / "image_unet" / "config.json", cross_attention_dim=WIDTH + 4)
    refused(place, rf"another architecture: unet\..*attn2.* \(got: \(\d+, {WIDTH}\); expected: \(\d+, {WIDTH + 4}\)")
    place = broken("unreadable")
    (place / "vae" / "config.json").write_text("{")
    refused(place, r"vae/config\.json is no configuration")
    place = broken("strange")
    rewrite(place / "image_unet" / "config.json", down_block_types=["NoBlock", "DownBlock2D"])
    refused(place, "diffusers does not support .*NoBlock")
    place = broken("cut")
    file = place / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    refused(place, "vae")
    place = broken("pickle")
    (place / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"hook": Path}, place / "vae" / "diffusion_pytorch_model.bin")
    refused(place, "was not executed")


def test_it_is_not_written_in_the_format_of_sdxls_unclip(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="null_tokens, no vector of sizes"):
        save_published("unclip", load_published("versatile_diffusion", folder), tmp_path / "unclip.safetensors")


def test_both_files_are_found_and_count(folder: Path, tmp_path: Path) -> None:
    """They have one name in two folders of the repository."""
    overrides = ["unclip=versatile_diffusion", "embedder=clip_l_hidden", f"paths.weights={tmp_path}"]
    config = compose_config(overrides)
    unclip = Frozen("unclip")
    lacks = " ".join(unclip.missing(config))
    for name in ("image_unet", "vae"):
        repository = f"hf download shi-labs/versatile-diffusion {name}/"
        assert f"{repository}diffusion_pytorch_model.bin {name}/config.json" in lacks
    shutil.copytree(folder, tmp_path / "shi-labs" / "versatile-diffusion")
    assert not unclip.missing(config)
    model = unclip.open(config, {})
    assert model is not None
    files = model.identity["files"]
    assert sorted(files) == [f"{name}/diffusion_pytorch_model.safetensors" for name in ("image_unet", "vae")]
    assert len(set(files.values())) == 2
    state = load_published("versatile_diffusion", folder).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.load().state_dict().items())
    assert config.reconstruct.candidates == 16
    assert compose_config([]).reconstruct.candidates == compose_config(["unclip=none"]).reconstruct.candidates == 1
