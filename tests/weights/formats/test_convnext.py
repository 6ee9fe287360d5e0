"""VICRegL's ConvNeXt in its published naming, against torchvision's ConvNeXt blocks as a second implementation."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.convnext import ConvNextMaps
from mindeye_pl.weights.registry import load_published

WIDTHS, DEPTHS, PROJECTION = (4, 8), (2, 3), 16


def published_state() -> dict[str, Tensor]:
    """Weights under the published names, drawn at random."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.downsample_layers.0.0.weight": (4, 3, 4, 4),
        "backbone.downsample_layers.0.0.bias": (4,),
        "backbone.downsample_layers.0.1.weight": (4,),
        "backbone.downsample_layers.0.1.bias": (4,),
        "backbone.downsample_layers.1.0.weight": (4,),
        "backbone.downsample_layers.1.0.bias": (4,),
        "backbone.downsample_layers.1.1.weight": (8, 4, 2, 2),
        "backbone.downsample_layers.1.1.bias": (8,),
        "backbone.norm.weight": (8,),
        "backbone.norm.bias": (8,),
    }
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for block in range(depth):
            name = f"backbone.stages.{stage}.{block}"
            shapes |= {f"{name}.dwconv.weight": (width, 1, 7, 7), f"{name}.dwconv.bias": (width,)}
            shapes |= {f"{name}.norm.weight": (width,), f"{name}.norm.bias": (width,)}
            shapes |= {f"{name}.pwconv1.weight": (4 * width, width), f"{name}.pwconv1.bias": (4 * width,)}
            shapes |= {f"{name}.pwconv2.weight": (width, 4 * width), f"{name}.pwconv2.bias": (width,)}
    for index, shape in ((0, (16, 8)), (1, (16,)), (3, (16, 16)), (4, (16,)), (6, (16, 16))):
        shapes[f"maps_projector.{index}.weight"] = shape
        if index != 6:
            shapes[f"maps_projector.{index}.bias"] = (16,)
    return {
        key: 0.3 * torch.randn(shape) + (key.endswith("weight") and len(shape) == 1) for key, shape in shapes.items()
    }


def file(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 150}, path)
    return path


def second_implementation(state: dict[str, Tensor], images: Tensor, std: tuple[float, ...]) -> Tensor:
    """torchvision's blocks with a layer scale of one; everything else by hand."""

    def norm(x: Tensor, key: str, eps: float = 1e-6) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], state[f"{key}.weight"], state[f"{key}.bias"], eps)

    def image_norm(x: Tensor, key: str) -> Tensor:
        return norm(x.permute(0, 2, 3, 1), key).permute(0, 3, 1, 2)

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = (images - mean) / torch.tensor(std).view(3, 1, 1)
    down = "backbone.downsample_layers"
    x = nn.functional.conv2d(x, state[f"{down}.0.0.weight"], state[f"{down}.0.0.bias"], stride=4)
    x = image_norm(x, f"{down}.0.1")
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        if stage:
            x = image_norm(x, f"{down}.1.0")
            x = nn.functional.conv2d(x, state[f"{down}.1.1.weight"], state[f"{down}.1.1.bias"], stride=2)
        for number in range(depth):
            block = CNBlock(width, layer_scale=1.0, stochastic_depth_prob=0.0).eval()
            names = {"0": "dwconv", "2": "norm", "3": "pwconv1", "5": "pwconv2"}
            own = {
                f"block.{index}.{kind}": state[f"backbone.stages.{stage}.{number}.{name}.{kind}"]
                for index, name in names.items()
                for kind in ("weight", "bias")
            }
            block.load_state_dict(own | {"layer_scale": torch.ones(width, 1, 1)})
            x = block(x)
    x = norm(x.flatten(2).transpose(1, 2), "backbone.norm")
    for index in (0, 3):
        x = x @ state[f"maps_projector.{index}.weight"].T + state[f"maps_projector.{index}.bias"]
        x = norm(x, f"maps_projector.{index + 1}", 1e-5).relu()
    return x @ state["maps_projector.6.weight"].T


@torch.no_grad()
def test_maps_agree_with_a_second_implementation(tmp_path: Path) -> None:
    state = published_state()
    model = load_published(
        "convnext", file(tmp_path / "convnext.pth", state | {"projector.0.weight": torch.ones(2, 2)})
    )
    assert isinstance(model, ConvNextMaps)
    images = torch.rand(2, 3, 32, 32)
    seen = model(images)
    assert seen.shape == (2, 16, PROJECTION)
    torch.testing.assert_close(seen, second_implementation(state, images, (0.228, 0.224, 0.225)), atol=1e-4, rtol=1e-3)


def test_foreign_keys_are_named(tmp_path: Path) -> None:
    state = published_state()
    with pytest.raises(UserError, match=r"no VICRegL ConvNeXt.*head\.weight"):
        load_published("convnext", file(tmp_path / "a.pth", state | {"head.weight": torch.ones(1)}))
    with pytest.raises(UserError, match="no VICRegL ConvNeXt"):
        load_published("convnext", file(tmp_path / "b.pth", {"a": torch.ones(1)}))


def test_paper_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = ConvNextMaps()
    backbone = sum(p.numel() for p in model.backbone.parameters())
    assert 348_000_000 < backbone < 349_000_000  # 350 M with a classifier of 2 M
