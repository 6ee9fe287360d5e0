"""CortexDecoder's bridges: the format, a second implementation in plain matrices, and images of its tokens."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.models.feature_decoder import FeatureDecoder
from mindeye_pl.models.reconstructor import BrainQuery, Reconstructor
from mindeye_pl.nn.brain.token_bridge import TokenBridge
from mindeye_pl.nn.diffusion.builders import random_unclip
from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.weights.registry import load_published, save_published
from tests.nn.diffusion.test_unclip import UNET, VAE

PATCHES, WIDTH, HIDDEN, INNER, LAYERS, HEADS = 5, 16, 16, 24, 2, 8
TOKENS, TOKEN_DIM = 4, 12


def published(feature_dim: int = WIDTH, *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of the published class, written down without it."""
    shapes: dict[str, tuple[int, ...]] = {"query_embed": (TOKENS, HIDDEN), "output_proj.weight": (TOKEN_DIM, HIDDEN)}
    shapes |= {"output_proj.bias": (TOKEN_DIM,), "brain_norm.weight": (HIDDEN,), "brain_norm.bias": (HIDDEN,)}
    if feature_dim != HIDDEN:
        shapes |= {"brain_proj.weight": (HIDDEN, feature_dim), "brain_proj.bias": (HIDDEN,)}
    for layer in (f"decoder.layers.{index}." for index in range(LAYERS)):
        for attention in ("self_attn.", "multihead_attn."):
            shapes |= {f"{layer}{attention}in_proj_weight": (3 * HIDDEN, HIDDEN)}
            shapes |= {f"{layer}{attention}in_proj_bias": (3 * HIDDEN,)}
            shapes |= {f"{layer}{attention}out_proj.weight": (HIDDEN, HIDDEN)}
            shapes |= {f"{layer}{attention}out_proj.bias": (HIDDEN,)}
        shapes |= {f"{layer}linear1.weight": (INNER, HIDDEN), f"{layer}linear1.bias": (INNER,)}
        shapes |= {f"{layer}linear2.weight": (HIDDEN, INNER), f"{layer}linear2.bias": (HIDDEN,)}
        for norm in ("norm1.", "norm2.", "norm3."):
            shapes |= {f"{layer}{norm}weight": (HIDDEN,), f"{layer}{norm}bias": (HIDDEN,)}
    generator = torch.Generator().manual_seed(seed)
    return {f"bridge.{name}": 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(state: dict[str, Tensor], name: str, x: Tensor, y: Tensor) -> Tensor:
    """Each head by itself, for one sample."""
    (wq, wk, wv), (bq, bk, bv) = state[f"{name}.in_proj_weight"].chunk(3), state[f"{name}.in_proj_bias"].chunk(3)
    queries, keys, values = x @ wq.T + bq, y @ wk.T + bk, y @ wv.T + bv
    size, heads = HIDDEN // HEADS, []
    for part in (slice(size * head, size * head + size) for head in range(HEADS)):
        similarity = queries[:, part] @ keys[:, part].T / size**0.5
        heads.append(similarity.exp() / similarity.exp().sum(1, keepdim=True) @ values[:, part])
    return linear(state, f"{name}.out_proj", torch.cat(heads, 1))


def plain(state: dict[str, Tensor], patches: Tensor) -> Tensor:
    """Tokens of one sample's patches (P, F)."""
    state = {key.removeprefix("bridge."): value for key, value in state.items()}
    memory = linear(state, "brain_proj", patches) if "brain_proj.weight" in state else patches
    memory, x = norm(state, "brain_norm", memory), state["query_embed"]
    for layer in (f"decoder.layers.{index}." for index in range(LAYERS)):
        x = norm(state, f"{layer}norm1", x + attend(state, f"{layer}self_attn", x, x))
        x = norm(state, f"{layer}norm2", x + attend(state, f"{layer}multihead_attn", x, memory))
        inner = linear(state, f"{layer}linear1", x).clamp(min=0)
        x = norm(state, f"{layer}norm3", x + linear(state, f"{layer}linear2", inner))
    return linear(state, "output_proj", x)


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    save_file(state, path / "clip_bridge.safetensors")
    return path / "clip_bridge.safetensors"


@pytest.mark.parametrize("feature_dim", [WIDTH, 6])
def test_equals_plain_matrices(feature_dim: int, tmp_path: Path) -> None:
    state = published(feature_dim)
    bridge = load_published("cortexdecoder_bridge", saved(tmp_path, state))
    features = torch.randn(3, PATCHES, feature_dim)
    with torch.no_grad():
        tokens = bridge(features)
        torch.testing.assert_close(bridge(features.flatten(1)), tokens)
    assert tokens.shape == (3, *bridge.token_shape) == (3, TOKENS, TOKEN_DIM)
    wanted = torch.stack([plain(state, patches) for patches in features])
    torch.testing.assert_close(tokens, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_patches_have_no_order_and_queries_depend_on_each_other(tmp_path: Path) -> None:
    bridge = load_published("cortexdecoder_bridge", saved(tmp_path, published()))
    features = torch.randn(2, PATCHES, WIDTH)
    tokens = bridge(features)
    torch.testing.assert_close(bridge(features.flip(1)), tokens)
    torch.testing.assert_close(bridge(features, torch.tensor([3, 1, 0, 2])), tokens[:, [3, 1, 0, 2]])
    assert not torch.allclose(bridge(features, torch.tensor([0, 1])), tokens[:, :2], atol=1e-3)


def test_a_training_checkpoint_and_half_precision(tmp_path: Path) -> None:
    """As the notebooks save them: the state dict as `model`, with the optimiser's and facts."""
    state = published()
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    content = {"model": state, "optimizer": optimizer.state_dict(), "epoch": 21, "domain": "clip", "subjects": ["s"]}
    torch.save(content, tmp_path / "clip_best.pt")
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "half.safetensors")
    exact = load_published("cortexdecoder_bridge", saved(tmp_path, state))
    trained = load_published("cortexdecoder_bridge", tmp_path / "clip_best.pt")
    half = load_published("cortexdecoder_bridge", tmp_path / "half.safetensors")
    for key, value in exact.state_dict().items():
        assert torch.equal(trained.state_dict()[key], value)
        assert half.state_dict()[key].dtype == torch.float32
        torch.testing.assert_close(half.state_dict()[key], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("feature_dim", [WIDTH, 6])
def test_round_trip(feature_dim: int, tmp_path: Path) -> None:
    state = published(feature_dim)
    bridge = load_published("cortexdecoder_bridge", saved(tmp_path, state))
    assert isinstance(bridge, TokenBridge)
    save_published("cortexdecoder_bridge", bridge, path := tmp_path / "again.safetensors")
    again = load_published("cortexdecoder_bridge", path).state_dict()
    assert all(torch.equal(again[key], value) for key, value in bridge.state_dict().items())


@pytest.mark.parametrize(
    ("sizes", "parameters"), [({}, 39_284_864), ({"num_tokens": 7190, "token_dim": 512}, 43_724_288)]
)
def test_released_sizes(sizes: dict[str, int], parameters: int) -> None:
    """The model card's 39.3 M and 43.7 M, of which positions of 200 patches would make 39.4 M and 43.9 M."""
    with torch.device("meta"):
        bridge = TokenBridge(**sizes)
    assert sum(value.numel() for value in bridge.state_dict().values()) == parameters
    assert len(bridge.state_dict()) == 77


def test_another_file_is_refused(tmp_path: Path) -> None:
    state = published()
    for more, words in {
        "bridge.patch_positions": r"no CortexDecoder bridge.*patch_positions",
        "bridge.decoder.norm.weight": r"no CortexDecoder bridge.*decoder\.norm",
        "bridge.decoder.layers.0.extra": r"another architecture.*decoder\.layers\.0\.extra",
    }.items():
        with pytest.raises(UserError, match=words):
            load_published("cortexdecoder_bridge", saved(tmp_path, state | {more: torch.zeros(2)}))
    without = {key: value for key, value in state.items() if "query" not in key}
    with pytest.raises(UserError, match=r"no CortexDecoder bridge.*expected.*query_embed"):
        load_published("cortexdecoder_bridge", saved(tmp_path, without))
    with pytest.raises(UserError, match="heads do not divide"):
        load_published("cortexdecoder_bridge", saved(tmp_path, state), heads=7)
    bridge = load_published("cortexdecoder_bridge", saved(tmp_path, state))
    for shape in ((2, PATCHES, WIDTH + 1), (2, PATCHES * WIDTH - 1), (0, PATCHES, WIDTH), (2, 0, WIDTH), (WIDTH,)):
        with pytest.raises(UserError, match=r"features have another shape.*\(n, patches, 16\)"):
            bridge(torch.zeros(shape))


@torch.no_grad()
def test_images_of_its_tokens(tmp_path: Path) -> None:
    bridge = load_published("cortexdecoder_bridge", saved(tmp_path, published()))
    unclip = random_unclip(0, UNET, VAE)
    unclip.sampling = Sampling("dpm_multistep", steps=2, guidance=2.0, offset=0.0, strength=0.5)
    features, ids = torch.randn(2, PATCHES, WIDTH), torch.tensor([3, 7])
    query = BrainQuery(ids, features.flatten(1)[:, None], torch.ones(2, 1))
    made = Reconstructor(FeatureDecoder(bridge), image_decoder=unclip, seed=5).eval().predict_step(query)
    tokens = bridge(features)
    torch.testing.assert_close(made["prior_tokens"], tokens)
    torch.testing.assert_close(made["retrieval"], tokens)
    drawn = unclip.draw(tokens, [image_seed(5, id_) for id_ in ids.tolist()])
    torch.testing.assert_close(made["images"], drawn, atol=1e-4, rtol=1e-4)
