"""The project's own weight files: sizes inside, whole or refused."""

from pathlib import Path

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_vae, random_unclip
from mindeye_pl.weights.files import read_own, save_own
from mindeye_pl.weights.loaders.bundled import UNCLIP, VAE, load_unclip
from tests.nn.diffusion.test_unclip import UNET
from tests.nn.diffusion.test_unclip import VAE as VAE_SIZES


def test_unclip_round_trip(tmp_path: Path) -> None:
    model = random_unclip(3, UNET, VAE_SIZES)
    save_own(tmp_path / VAE, model.vae.state_dict(), VAE_SIZES)
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith("vae.")}
    save_own(tmp_path / UNCLIP, kept, UNET)
    again = load_unclip(tmp_path)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0)
    assert again.latent_shape == model.latent_shape


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    save_own(tmp_path / "a.safetensors", {"x": torch.tensor([0.1])}, {"n": 1}, half=True)
    weights, sizes = read_own(tmp_path / "a.safetensors")
    assert weights["x"].dtype == torch.float32
    assert sizes == {"n": 1}


def test_a_file_without_sizes_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(build_vae(**VAE_SIZES).state_dict()), str(tmp_path / VAE))
    with pytest.raises(UserError, match="sizes of its model"):
        read_own(tmp_path / VAE)
