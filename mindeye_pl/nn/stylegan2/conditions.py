"""Embeddings as conditions of a generator's styles: one of them, or the element-wise maximum of two.

Lafite's generator has one condition. Mind Reader's has two, each with networks of its own in every layer, and takes the
element-wise maximum of their outputs (Mind Reader, spec section 5.2).

Legend: B batch, E_k width of condition k, W width of an intermediate latent, O channels that a style scales.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.equalised import EqualisedLinear
from mindeye_pl.nn.stylegan2.maps import full_precision

#: Values of the option `condition`: one embedding, both with networks of their own, or one combined from both.
Condition = Literal["image", "caption", "both", "signed_maximum"]
CHOICES = get_args(Condition)

#: State-dict keys of the first condition: a generator's pre-nets, a discriminator's head.
_FIRST = re.compile(r"\b(pre_nets|semantics)\.0\.")


def signed_maximum(first: Tensor, second: Tensor) -> Tensor:
    """Return of each pair of elements the one with the larger magnitude, with its sign."""
    return torch.where(first.abs() >= second.abs(), first, second)


def condition_widths(condition: Condition, image_dim: int, caption_dim: int) -> tuple[int, ...]:
    """Return E_k of a choice's conditions, given the widths of image and caption embedding."""
    assert condition in CHOICES, f"{condition}, not one of {CHOICES}"
    if condition == "signed_maximum":
        assert image_dim == caption_dim, f"widths {image_dim} and {caption_dim}"
    return {"caption": (caption_dim,), "both": (image_dim, caption_dim)}.get(condition, (image_dim,))


def select_conditions(condition: Condition, image: Tensor | None, caption: Tensor | None) -> tuple[Tensor, ...]:
    """Return the conditions of a choice, `(B, E_k)` each, from image and caption embeddings `(B, E)`.

    The embedding that a choice does not use may be None.
    """
    assert condition in CHOICES, f"{condition}, not one of {CHOICES}"
    given = {"image": (image,), "caption": (caption,)}.get(condition, (image, caption))
    embeddings = tuple(embedding for embedding in given if embedding is not None)
    assert len(embeddings) == len(given), f"condition {condition} lacks an embedding"
    return (signed_maximum(*embeddings),) if condition == "signed_maximum" else embeddings


class StyleInjection(nn.Module):
    """A layer's style from its intermediate latent and the conditions, in float32.

    The style is an affine map of the latent and of the condition after two layers. With two conditions each has its own
    two layers, and the element-wise maximum of both outputs is taken; for equal embeddings and weights that equals the
    style of one condition.
    """

    def __init__(self, out_channels: int, w_dim: int, widths: Sequence[int]):
        super().__init__()
        assert widths, "no condition"
        self.pre_nets = nn.ModuleList(
            nn.Sequential(
                EqualisedLinear(width, (width + w_dim) // 2, lr_multiplier=0.01, activation=True),
                EqualisedLinear((width + w_dim) // 2, w_dim, lr_multiplier=0.01, activation=True),
            )
            for width in widths
        )
        self.affine = EqualisedLinear(2 * w_dim, out_channels, bias=1.0)

    def forward(self, w: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Return the style. Shape: `(B, W)`, `(B, E_k)` each -> `(B, O)` float32."""
        assert len(conditions) == len(self.pre_nets), f"{len(conditions)} conditions for {len(self.pre_nets)}"
        with full_precision(w):
            first, *others = (
                pre_net(condition.float()) for pre_net, condition in zip(self.pre_nets, conditions, strict=True)
            )
            for other in others:
                first = torch.maximum(first, other)
            return self.affine(torch.cat([first, w.float()], 1))


def with_second_condition(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network with one condition for the same network with two, which start equal.

    By this the training of a `Generator` and a `Discriminator` of captions alone is continued with both embeddings.
    """
    more = {_FIRST.sub(r"\1.1.", key): value.clone() for key, value in state.items() if _FIRST.search(key)}
    return dict(state) | more
