"""SDXL base through the importer of its single-file format: UNet and VAE of the golden case, text towers made here."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.refiner import Refiner
from mindeye_pl.nn.diffusion.sdxl_text import SDXLText, text_tower
from mindeye_pl.weights.formats.sdxl_base import FORMAT
from mindeye_pl.weights.registry import load_published
from tests.weights.test_unclip_golden import published_state

WORDS = 49408
OPTIONS = {"head_dim": 16, "text_head_dim": 8, "image_size": 64}


def clip_l() -> CLIPTextModel:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        hidden_act="quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    return CLIPTextModel(config).eval()


def bigg() -> torch.nn.Module:
    torch.manual_seed(1)
    return text_tower(width=24, layers=2, heads=3, output_dim=16).eval()


def sdxl_state() -> dict[str, Tensor]:
    """Content of a released file, small: 40 = 16 + 24 text channels, 64 = 16 + 6 * 8 of the vector."""
    state = {key: value for key, value in published_state().items() if key != "denoiser.sigmas"}
    for key, value in clip_l().state_dict().items():
        state["conditioner.embedders.0.transformer.text_model." + key.removeprefix("text_model.")] = value
    for key, value in bigg().state_dict().items():
        state[f"conditioner.embedders.1.model.{key}"] = value
    return state | {"conditioner.embedders.1.model.logit_scale": torch.tensor(4.6)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sdxl") / "sd_xl_base_1.0.safetensors"
    save_file({key: value.contiguous().clone() for key, value in sdxl_state().items()}, path)
    return path


@pytest.fixture(scope="module")
def refiner(file: Path) -> Refiner:
    return load_published("sdxl_base", file, **OPTIONS)


def test_text_towers_are_those_of_their_libraries(refiner: Refiner) -> None:
    captions = ["a red dog", "two people on a very long beach with a kite"]
    hidden, pooled = refiner.text(captions)
    for_clip_l, for_bigg = refiner.text.tokenize(captions)
    assert for_clip_l[0].tolist()[:8] == [49406, 320, 736, 1929, 49407, 49407, 49407, 49407]
    assert for_bigg[0].tolist()[:8] == [49406, 320, 736, 1929, 49407, 0, 0, 0]
    with torch.no_grad():
        wanted = clip_l()(for_clip_l, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(hidden[..., :16], wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(pooled, bigg()(for_bigg), atol=1e-5, rtol=1e-4)
        tower = bigg()
        inner, _ = tower._embeds(for_bigg)
        for block in tower.transformer.resblocks[:-1]:
            inner = block(inner, attn_mask=tower.attn_mask[:77, :77])
        torch.testing.assert_close(hidden[..., 16:], inner, atol=1e-5, rtol=1e-4)


def test_vector_is_pooled_text_and_sizes(refiner: Refiner) -> None:
    hidden, vector = refiner.condition(["a dog", "a cat", ""])
    assert hidden.shape == (3, 77, 40)
    assert vector.shape == (3, 64)
    assert torch.equal(vector[0, 16:], vector[1, 16:])
    assert not torch.allclose(vector[0, :16], vector[1, :16])


def test_every_key_is_used_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    state = sdxl_state()
    model = FORMAT.build(state, tmp_path, **OPTIONS)
    assert FORMAT.to_own(state, tmp_path).keys() == model.state_dict().keys()
    path = tmp_path / "other.safetensors"
    save_file({key: value.contiguous().clone() for key, value in (state | {"model.ema": torch.zeros(1)}).items()}, path)
    with pytest.raises(UserError, match=r"no SDXL base.*model\.ema"):
        load_published("sdxl_base", path, **OPTIONS)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no SDXL base"):
        load_published("sdxl_base", path)
    del state["conditioner.embedders.1.model.ln_final.bias"]
    save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    with pytest.raises(UserError, match=r"another architecture: text\.bigg\.ln_final\.bias"):
        load_published("sdxl_base", path, **OPTIONS)


def test_paper_size_on_the_meta_device() -> None:
    unet = {
        "channels": [320, 640, 1280],
        "transformer_depth": [0, 2, 10],
        "head_dim": 64,
        "token_dim": 2048,
        "size_dim": 2816,
        "latent_channels": 4,
        "layers_per_block": 2,
        "latent_size": 96,
    }
    vae = {"channels": [128, 256, 512, 512], "latent_channels": 4, "layers_per_block": 2, "image_size": 768}
    towers = (
        {"width": 768, "layers": 12, "heads": 12, "output_dim": None, "quick": True},
        {"width": 1280, "layers": 32, "heads": 20, "output_dim": 1280},
    )
    with torch.device("meta"):
        text = SDXLText(*(text_tower(**tower) for tower in towers))
        model = Refiner(build_unet(**unet), build_vae(**vae), text, image_size=(768, 768))
    assert sum(p.numel() for p in model.unet.parameters()) == 2_567_463_684
    assert sum(p.numel() for p in model.text.clip_l.parameters()) == 123_060_480
    assert sum(p.numel() for p in model.text.bigg.parameters()) == 694_659_840
    assert model.latent_shape == (4, 96, 96)


def test_a_released_file_in_half_precision_refines(refiner: Refiner, tmp_path: Path) -> None:
    """As float32 does, but for the rounding of the UNet."""
    path = tmp_path / "half.safetensors"
    save_file({key: value.half().contiguous().clone() for key, value in sdxl_state().items()}, path)
    half = load_published("sdxl_base", path, **OPTIONS)
    assert {value.dtype for value in half.unet.state_dict().values()} == {torch.float16}
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = [
        model.refine(images, ["a red dog", "two people"], noise=refiner.noise([1, 2]), negative_prompt="blurry")
        for model in (half, refiner)
    ]
    assert made[0].dtype == torch.float32
    torch.testing.assert_close(made[0], made[1], atol=0.02, rtol=0)
