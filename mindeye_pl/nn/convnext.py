"""Feature maps that the low-level branch is compared with: VICRegL's ConvNeXt (MindEye2, spec sections 3 and 6.4).

Legend: B pictures, M places of a map (49 of a picture of 224 pixels), F width of the last stage.
"""

from collections.abc import Sequence
from zlib import crc32

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import normalize

_MEAN = (0.485, 0.456, 0.406)
#: The published code writes 0.228 where ImageNet's standard deviation is 0.229.
STD = {"published": (0.228, 0.224, 0.225), "corrected": (0.229, 0.224, 0.225)}


class ConvNextMaps(nn.Module):
    """A ConvNeXt without layer scale, its last map normalised and projected to 512 channels.

    Args:
        widths: of the stages.
        depths: blocks of each stage.
        projection: width of the projector's layers, 512 as published.
        input_std: "published" or "corrected" normalisation of pictures.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 3, 27, 3),
        projection: int = 512,
        input_std: str = "published",
    ):
        super().__init__()
        from transformers import ConvNextConfig, ConvNextModel

        config = ConvNextConfig(
            hidden_sizes=list(widths),
            depths=list(depths),
            num_stages=len(widths),
            layer_scale_init_value=0.0,  # none
            layer_norm_eps=1e-6,
        )
        self.backbone = ConvNextModel(config)
        self.maps_projector = nn.Sequential(
            nn.Linear(widths[-1], projection),
            nn.LayerNorm(projection),
            nn.ReLU(),
            nn.Linear(projection, projection),
            nn.LayerNorm(projection),
            nn.ReLU(),
            nn.Linear(projection, projection, bias=False),
        )
        self.input_std = input_std
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Shape: `(B, 3, H, W)` in [0, 1] -> `(B, M, 512)`."""
        last = self.backbone(
            normalize(pictures, list(_MEAN), list(STD[self.input_std]))
        ).last_hidden_state  # (B, F, h, w)
        places = self.backbone.layernorm(last.flatten(2).transpose(1, 2))  # (B, M, F)
        return self.maps_projector(places)


def _mindeye2_views(size: Sequence[int]) -> v2.Transform:
    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
            v2.RandomGrayscale(0.1),
            v2.RandomSolarize(threshold=0.5, p=0.1),
            v2.RandomResizedCrop(list(size), scale=(0.9, 0.9), ratio=(1, 1)),
        ]
    )


def _mindeye1_views(size: Sequence[int]) -> v2.Transform:
    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomSolarize(threshold=0.5, p=0.2),
            v2.RandomApply([v2.GaussianBlur(7, sigma=(0.1, 2.0))], p=0.1),
            v2.RandomResizedCrop(list(size), scale=(0.5, 1.0)),
        ]
    )


#: How a system's second view of a picture is drawn (spec of MindEye2, section 6.4; of MindEye1, section 7.2).
AUGMENTATIONS = {"mindeye2": _mindeye2_views, "mindeye1": _mindeye1_views}


def augmented_views(pictures: Tensor, count: int, *, augmentation: str = "mindeye2") -> Tensor:
    """Each picture in other colours and cropped.

    The draws follow from the picture itself, so that a store that is filled in other batches holds the same views.

    Args:
        pictures: `(B, 3, H, W)` in [0, 1], on the CPU.
        count: views of each.
        augmentation: one of `AUGMENTATIONS`.

    Returns:
        `(B, count, 3, H, W)`.
    """
    draw = AUGMENTATIONS[augmentation](pictures.shape[-2:])
    views = []
    with torch.random.fork_rng(devices=[]):
        for picture in pictures:
            torch.default_generator.manual_seed(crc32(picture.numpy().tobytes()))
            views.append(torch.stack([draw(picture) for _ in range(count)]))
    return torch.stack(views).clamp(0, 1)


def random_convnext(seed: int, *, widths: Sequence[int], depths: Sequence[int]) -> ConvNextMaps:
    """An untrained one, the same on every call; the global random state is neither read nor changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ConvNextMaps(widths=widths, depths=depths)
