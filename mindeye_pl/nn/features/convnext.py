"""Feature maps as a target of the low-level branch: VICRegL's ConvNeXt (MindEye2, spec sections 3 and 6.4).

Legend: B images, M positions of a map (49 for an image of 224 pixels), F width of the last ConvNeXt stage.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from mindeye_pl.nn.diffusion.seeds import seeded
from mindeye_pl.types import PositiveInt, Seed

_MEAN = [0.485, 0.456, 0.406]
_STD = [0.228, 0.224, 0.225]  # as published; ImageNet's first value is 0.229


class ConvNextMaps(nn.Module):
    """A ConvNeXt without layer scale, whose last map is normalised and projected to 512 channels.

    Args:
        widths: channels of ConvNeXt's stages.
        depths: blocks of each of its stages.
        projection: width of the projector's layers, 512 as published.
    """

    def __init__(
        self,
        *,
        widths: Sequence[PositiveInt] = (256, 512, 1024, 2048),
        depths: Sequence[PositiveInt] = (3, 3, 27, 3),
        projection: PositiveInt = 512,
    ):
        super().__init__()
        from transformers import ConvNextConfig, ConvNextModel

        sizes: dict[str, Any] = {"hidden_sizes": list(widths), "depths": list(depths), "num_stages": len(widths)}
        self.backbone = ConvNextModel(ConvNextConfig(**sizes, layer_scale_init_value=0.0, layer_norm_eps=1e-6))
        self.maps_projector = nn.Sequential(
            *(nn.Linear(widths[-1], projection), nn.LayerNorm(projection), nn.ReLU()),
            *(nn.Linear(projection, projection), nn.LayerNorm(projection), nn.ReLU()),
            nn.Linear(projection, projection, bias=False),
        )
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the images' feature maps. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, M, 512)`."""
        last = self.backbone(normalize(images, _MEAN, _STD)).last_hidden_state  # (B, F, h, w)
        positions = self.backbone.layernorm(last.flatten(2).transpose(1, 2))  # (B, M, F)
        return self.maps_projector(positions)


def random_convnext(seed: Seed, *, widths: Sequence[PositiveInt], depths: Sequence[PositiveInt]) -> ConvNextMaps:
    """Return an untrained ConvNeXt, the same on every call; the global random state is neither read nor changed."""
    with seeded(seed):
        return ConvNextMaps(widths=widths, depths=depths)
