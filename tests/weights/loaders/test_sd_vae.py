"""Stable Diffusion's VAE as a plain state dict, under today's names and under those of older diffusers."""

from pathlib import Path

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_vae, random_vae
from mindeye_pl.weights.loaders.sd_vae import SIZES, load_sd_vae

SMALL = {"channels": (8, 16), "latent_channels": 4, "image_size": 32, "layers_per_block": 1, "groups": 4}
OLD = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}


@pytest.mark.parametrize("names", [{}, OLD], ids=["today", "older"])
def test_loads_what_was_saved(tmp_path: Path, names: dict[str, str]) -> None:
    vae, path, state = random_vae(1, **SMALL), tmp_path / "sd_image_var_autoenc.pth", {}
    for key, value in vae.state_dict().items():
        for today, older in names.items():
            key = key.replace(today, older)
        state[key] = value
    torch.save(state, path)
    again = load_sd_vae(path, **SMALL)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images).sample, vae(images).sample)
    assert again.config["scaling_factor"] == 0.18215


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vae.pth"
    torch.save(random_vae(1, **SMALL).state_dict(), path)
    with pytest.raises(UserError, match="another architecture"):
        load_sd_vae(path)


def test_published_size() -> None:
    with torch.device("meta"):
        vae = build_vae(**SIZES)
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
