"""The published fine-tuning's changes to SDXL base, and no others."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet
from mindeye_pl.weights.loaders.sdxl_surgery import KEY_VALUE, LABEL, unclip_start
from mindeye_pl.weights.registry import load_published
from tests.weights.test_unclip_golden import CASE, published_state, save


@pytest.fixture
def sdxl() -> dict[str, Tensor]:
    """A small SDXL base: the golden case's unCLIP with wider text tokens, a longer vector and text towers."""
    state = published_state()
    del state["denoiser.sigmas"]
    for key, value in state.items():
        if KEY_VALUE.fullmatch(key):
            state[key] = torch.randn(value.shape[0], 96)
    state[LABEL] = torch.randn(128, 176)
    return state | {"conditioner.embedders.0.transformer.text_model.embeddings.weight": torch.randn(3, 2)}


def test_only_keys_values_and_label_change(sdxl: dict[str, Tensor]) -> None:
    start = unclip_start(sdxl, Path("sdxl"), token_dim=40, size_dim=64)
    changed = {key for key, value in start.items() if value is not sdxl[key]}
    assert changed == {key for key in sdxl if "attn2.to_k" in key or "attn2.to_v" in key} | {LABEL}
    assert torch.equal(start[LABEL], sdxl[LABEL][:, :64])
    keys = json.loads((CASE / "keys.json").read_text())["keys"]
    assert {key: list(value.shape) for key, value in start.items()} == {
        key: shape for key, shape in keys.items() if key != "denoiser.sigmas"
    }


def test_the_start_is_a_whole_unclip(sdxl: dict[str, Tensor], tmp_path: Path) -> None:
    path = save(tmp_path, unclip_start(sdxl, Path("sdxl"), token_dim=40, size_dim=64))
    unclip = load_published("unclip", path, head_dim=16)
    with torch.no_grad():
        out = unclip.denoise(torch.randn(1, 4, 16, 16), torch.tensor([5]), torch.randn(1, 12, 40), torch.randn(1, 64))
    assert out.isfinite().all()


def test_another_model_is_refused(sdxl: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="no SDXL base"):
        unclip_start({"x": torch.zeros(1)}, Path("other.safetensors"))
    with pytest.raises(UserError, match="no SDXL base"):
        unclip_start(sdxl, Path("small.safetensors"))


def test_at_full_size_140_matrices() -> None:
    """SDXL's UNet has 70 cross-attentions; the surgery remakes their keys and values for 1664 wide tokens."""
    with torch.device("meta"):
        unet = build_unet(
            channels=(320, 640, 1280),
            transformer_depth=(0, 2, 10),
            head_dim=64,
            token_dim=2048,
            size_dim=2816,
            latent_channels=4,
            latent_size=128,
        )
    names = [f"model.diffusion_model.{key}" for key in unet.state_dict() if "attn2.to_k" in key or "attn2.to_v" in key]
    assert len(names) == 140
    state = {name: torch.empty(640, 2048, device="meta") for name in names}
    state[LABEL] = torch.empty(1280, 2816, device="meta")
    start = unclip_start(state, Path("sdxl"))
    assert {tuple(start[name].shape) for name in names} == {(640, 1664)}
    assert tuple(start[LABEL].shape) == (1280, 1024)
