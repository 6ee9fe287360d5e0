"""Image features of evaluations: layers of frozen networks (MindEye2, spec section 10).

Legend: B images, H and W image size, P input side of a network, F values of a layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import InterpolationMode, normalize
from torchvision.transforms.v2.functional import resize as tv_resize

from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FeatureNetwork(nn.Module):
    """A network that returns the values of some of its layers, frozen and in eval mode; images get gradients.

    Args:
        backbone: normalised images `(B, 3, P, P)` to a tensor, or to tensors by layer, `(B, ...)` each.
        layers: names of the backbone's outputs, from the first to the deepest.
        size: P; images are resized to a square of this side, without a crop.
        mean: per channel, subtracted.
        std: per channel, the divisor.
        antialias: False resizes as torchvision 0.16 did on tensors, on which the published numbers depend; True filters
            images before they are shrunk.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        layers: Sequence[str],
        size: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        antialias: bool = False,
    ):
        super().__init__()
        self.backbone, self.layers = backbone, tuple(layers)
        self.size, self.mean, self.std, self.antialias = size, list(mean), list(std), antialias
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stay in eval mode, also inside a module that is trained."""
        return super().train(False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize and normalise images. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, 3, P, P)` float32."""
        bilinear = InterpolationMode.BILINEAR
        resized = tv_resize(images.float(), [self.size] * 2, interpolation=bilinear, antialias=self.antialias)
        return normalize(resized, self.mean, self.std)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return all layers by name from one forward pass. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, F)` float32 each."""
        assert images.ndim == 4 and images.shape[1] == 3, f"images of shape {tuple(images.shape)}"  # noqa: PT018
        found = self.backbone(self.preprocess(images))
        if isinstance(found, Tensor):
            found = dict.fromkeys(self.layers, found)
        return {layer: found[layer].flatten(1).float() for layer in self.layers}

    def forward(self, images: Tensor) -> Tensor:
        """Return the deepest layer. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, F)` float32."""
        return self.features(images)[self.layers[-1]]


class InceptionOfFID(FeatureNetwork):
    """The Inception network of FID's definition, by torch-fidelity: it reads bytes and resizes as TensorFlow 1 did."""

    def __init__(self, extractor: nn.Module):
        super().__init__(extractor, layers=["fid_inception"], size=299)

    def preprocess(self, images: Tensor) -> Tensor:
        """Convert images to bytes, as in a PNG file. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, 3, H, W)` uint8."""
        return (images.float() * 255).round().clamp(0, 255).byte()

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pooled layer `(B, 2048)` float32 by its name."""
        (pooled,) = self.backbone(self.preprocess(images))
        return {self.layers[0]: pooled}


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, **options)


def _headless_resnet50() -> nn.Module:
    network = _torchvision("resnet50")
    network.fc = nn.Identity()  # a self-supervised network has no classes
    return network


def openclip_visual(model_name: str) -> nn.Module:
    """Return the vision tower of an open_clip model with the projected embedding, as `encode_image` returns it."""
    import open_clip

    config = open_clip.get_model_config(model_name)
    assert config is not None, model_name
    visual = open_clip.CLIP(**config).visual
    visual.output_tokens = False
    return visual


@dataclass(frozen=True)
class Recipe:
    """Architecture and input of a named network."""

    architecture: Callable[[], nn.Module]  # builds it on the current default device
    layers: Mapping[str, str | None]  # layer name to the node of the network's graph; None for the network's output
    size: int  # input side in pixels
    mean: tuple[float, ...] = IMAGENET_MEAN  # of its normalisation, as std
    std: tuple[float, ...] = IMAGENET_STD

    def build(self) -> nn.Module:
        """Return the whole network on the meta device: it takes no memory and has no random weights."""
        with torch.device("meta"):
            return self.architecture().eval()

    def feature_network(self, network: nn.Module, *, antialias: bool = False) -> FeatureNetwork:
        """Return the network truncated after the last of the layers."""
        from torchvision.models.feature_extraction import create_feature_extractor

        if nodes := {node: layer for layer, node in self.layers.items() if node is not None}:
            # Traced in eval mode only; without the option torchvision warns that training mode has other nodes.
            network = create_feature_extractor(network, nodes, suppress_diff_warning=True)
        options: dict[str, Any] = {"size": self.size, "mean": self.mean, "std": self.std, "antialias": antialias}
        return FeatureNetwork(network, layers=list(self.layers), **options)


#: The networks of the published evaluation whose weights come in their own library's format.
RECIPES = {
    "alexnet": Recipe(partial(_torchvision, "alexnet"), {"alexnet_2": "features.4", "alexnet_5": "features.11"}, 256),
    # Inception's released weights expect another normalisation, which the network derives from ImageNet's.
    "inception_v3": Recipe(
        partial(_torchvision, "inception_v3", transform_input=True, aux_logits=True, init_weights=False),
        {"inception_v3": "avgpool"},
        342,
    ),
    "clip_b32": Recipe(partial(openclip_visual, "ViT-B-32-quickgelu"), {"clip_b32": None}, 224, CLIP_MEAN, CLIP_STD),
    "clip_l": Recipe(partial(openclip_visual, "ViT-L-14-quickgelu"), {"clip_l": None}, 224, CLIP_MEAN, CLIP_STD),
    "efficientnet_b1": Recipe(partial(_torchvision, "efficientnet_b1"), {"efficientnet_b1": "avgpool"}, 255),
    "swav": Recipe(_headless_resnet50, {"swav": "avgpool"}, 224),
}
