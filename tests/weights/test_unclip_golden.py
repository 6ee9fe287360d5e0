"""The published SDXL unCLIP at a small size, through the importer of its checkpoint format."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.solvers import euler_published, published_timesteps, training_sigmas
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.registry import load_published
from tests.golden import weights as golden
from tests.weights.test_mindeye2_golden import agree

CASE = Path(golden.__file__).parent / "unclip_small"


def published_state() -> dict[str, Tensor]:
    keys = json.loads((CASE / "keys.json").read_text())
    state = {
        key: torch.from_numpy(golden.tensor(keys["salt"], key, tuple(shape)))
        for key, shape in keys["keys"].items()
        if key not in keys["computed"]
    }
    return state | {"denoiser.sigmas": training_sigmas().float()}


def save(folder: Path, state: dict[str, Tensor]) -> Path:
    path = folder / "unclip.ckpt"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE / "io.safetensors")


@pytest.fixture(scope="module")
def unclip(tmp_path_factory: pytest.TempPathFactory) -> UnCLIPModel:
    path = save(tmp_path_factory.mktemp("golden"), published_state())
    return load_published("unclip", path, head_dim=16)


def test_schedule(io: dict[str, Tensor]) -> None:
    agree(training_sigmas().float(), io["denoiser.sigmas"], 1e-5)
    agree(euler_published(38).sigmas, io["sampler.sigmas"], 1e-5)
    assert published_timesteps(38)[:7] == [999, 972, 946, 920, 893, 867, 841]
    assert published_timesteps(38)[-4:] == [105, 78, 52, 26]


def test_size_vector(unclip: UnCLIPModel, io: dict[str, Tensor]) -> None:
    agree(unclip.size_vectors(torch.tensor([[768, 768, 0, 0]])), io["vector_suffix"])


@torch.no_grad()
def test_unet(unclip: UnCLIPModel, io: dict[str, Tensor]) -> None:
    agree(unclip.denoise(io["unet.x"], io["unet.timesteps"], io["unet.context"], io["unet.y"]), io["unet.out"])


@torch.no_grad()
def test_guided_sample(unclip: UnCLIPModel, io: dict[str, Tensor]) -> None:
    latents = unclip.sample(
        io["sample.tokens"],
        uncond_tokens=io["sample.uncond_tokens"],
        noise=io["sample.start"],
        vector=io["vector_suffix"],
        steps=38,
        guidance=5.0,
    )
    agree(latents, io["sample.latents"], 1e-3)


def test_start_is_scaled_as_published(io: dict[str, Tensor]) -> None:
    sigma = training_sigmas()[-1].float()
    start = io["sample.z0"] + sigma * (io["sample.noise"] + 0.04 * io["sample.offset"])
    agree(start / (1 + sigma**2).sqrt(), io["sample.start"])


@torch.no_grad()
def test_vae(unclip: UnCLIPModel, io: dict[str, Tensor]) -> None:
    agree(unclip.vae.encode(io["vae.image"]).latent_dist.parameters, io["vae.moments"])
    agree(unclip.vae.decode(io["vae.latent"]).sample, io["vae.decoded"])


def test_every_key_is_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.diffusion_model|weights"):
        load_published("unclip", save(tmp_path, published_state() | {"model.diffusion_model.more": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"no unCLIP checkpoint .*extra"):
        load_published("unclip", save(tmp_path, published_state() | {"extra": torch.zeros(1)}))


def test_shapes_that_differ_are_named(tmp_path: Path) -> None:
    state = published_state()
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    state[key] = torch.zeros(64, 41)  # of another token width than the others
    with pytest.raises(UserError, match=r"attn2\.to_k\.weight .*41.*40"):
        load_published("unclip", save(tmp_path, state), head_dim=16)


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    state = published_state() | {"denoiser.sigmas": torch.linspace(0, 1, 1000)}
    with pytest.raises(UserError, match="noise schedule"):
        load_published("unclip", save(tmp_path, state), head_dim=16)
