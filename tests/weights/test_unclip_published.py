"""An unCLIP written in the published format: every key comes back, with its weight bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet, random_unclip
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.formats.unclip import FORMAT, unet_to_sgm
from mindeye_pl.weights.registry import load_published, save_published
from tests.weights.test_unclip_golden import CASE, published_state, save


@pytest.fixture
def model(tmp_path: Path) -> UnCLIPModel:
    return load_published("unclip", save(tmp_path, published_state()), head_dim=16)


def test_every_key_of_the_published_state_comes_back(model: UnCLIPModel) -> None:
    found, wanted = FORMAT.to_published(model), published_state()
    assert found.keys() == json.loads((CASE / "keys.json").read_text())["keys"].keys()
    for key, value in wanted.items():
        assert found[key].shape == value.shape, key
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", ["unclip.safetensors", "unclip.ckpt"])
def test_written_and_read_again(model: UnCLIPModel, tmp_path: Path, name: str) -> None:
    path = tmp_path / "written" / name
    path.parent.mkdir()
    save_published("unclip", model, path)
    assert [file.name for file in path.parent.iterdir()] == [name]
    again = load_published("unclip", path, head_dim=16, image_size=64, output="corrected")
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert (again.image_size, again.output) == ((64, 64), "corrected")
    assert (model.image_size, model.output) == ((768, 768), "published")


def test_the_file_stands_alone(model: UnCLIPModel, tmp_path: Path) -> None:
    """Weights that are views of one mapped file are written once each, and not with what lies around them."""
    path, copy = tmp_path / "unclip.safetensors", tmp_path / "copy.safetensors"
    save_published("unclip", model, path)
    save_published("unclip", load_published("unclip", path, head_dim=16), copy)
    assert copy.stat().st_size == path.stat().st_size
    assert load_file(copy).keys() == load_file(path).keys()


def test_unsupported_parts_are_refused_by_the_format(tmp_path: Path) -> None:
    unet = {
        "channels": [8],
        "transformer_depth": [1],
        "head_dim": 8,
        "size_dim": 16,
        "layers_per_block": 1,
        "groups": 4,
    }
    unet |= {"token_dim": 16, "num_tokens": 4, "packing": 2, "token_positions": True}
    vae = {"channels": [4, 8], "latent_channels": 4, "layers_per_block": 1, "groups": 4, "image_size": 32}
    with pytest.raises(UserError, match="packing, null_tokens, token_positions"):
        save_published("unclip", random_unclip(0, unet, vae), tmp_path / "unclip.safetensors")
    assert not list(tmp_path.iterdir())


def test_at_full_size_1680_keys() -> None:
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
    published = unet_to_sgm(unet.state_dict(), levels=3, layers_per_block=2)
    assert len(published) == 1680
    assert sum(value.numel() for value in published.values()) == 2_501_272_324
    # Names that only the full depth and number of levels have, as the released file gives them.
    assert tuple(published["output_blocks.2.1.transformer_blocks.9.attn2.to_k.weight"].shape) == (1280, 1664)
    assert tuple(published["output_blocks.5.2.conv.weight"].shape) == (640, 640, 3, 3)
    assert tuple(published["input_blocks.6.0.op.weight"].shape) == (640, 640, 3, 3)
    assert tuple(published["output_blocks.8.0.skip_connection.weight"].shape) == (320, 640, 1, 1)


def test_a_file_in_half_precision_draws_as_one_in_single(model: UnCLIPModel, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({key: value.half() for key, value in published_state().items()}, path)
    half = load_published("unclip", path, head_dim=16)
    assert half.unet.dtype == torch.float16
    for one in (half, model):
        one.sampling = Sampling(solver="euler_published", steps=3, guidance=2.0)
        one.image_size = (64, 64)
    tokens = torch.randn(2, 5, model.unet.config["cross_attention_dim"], generator=torch.Generator().manual_seed(0))
    made = [one.draw(tokens, [1, 2]) for one in (half, model)]
    assert made[0].dtype == torch.float32
    torch.testing.assert_close(made[0], made[1], atol=0.02, rtol=0)
