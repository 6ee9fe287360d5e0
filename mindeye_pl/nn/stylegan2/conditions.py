"""Embeddings as conditions of a generator's styles: one of them, or two of which the larger element counts.

Lafite's generator has one condition; Mind Reader's has two, each with networks of its own in every layer, and takes the
element-wise maximum of what they make (Mind Reader, spec section 5.2).

Legend: B batch, E_k width of condition k, W width of an intermediate latent, O channels that a style scales.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.equalised import EqualisedLinear
from mindeye_pl.nn.stylegan2.precision import full_precision

#: What a network can be conditioned on: one embedding, each of the two by itself, or one made of the two.
Condition = Literal["image", "caption", "both", "signed_maximum"]
CHOICES = get_args(Condition)

#: Keys of what belongs to the first condition: a generator's pre-nets, a discriminator's head.
_FIRST = re.compile(r"\b(pre_nets|semantics)\.0\.")


def signed_maximum(first: Tensor, second: Tensor) -> Tensor:
    """Of each pair of elements the one with the larger magnitude, with its sign."""
    return torch.where(first.abs() >= second.abs(), first, second)


def condition_widths(condition: Condition, image_dim: int, caption_dim: int) -> tuple[int, ...]:
    """E_k of the conditions that a choice makes of an image and a caption embedding of these widths."""
    assert condition in CHOICES, f"{condition}, not one of {CHOICES}"
    if condition == "signed_maximum":
        assert image_dim == caption_dim, f"widths {image_dim} and {caption_dim}"
    return {"caption": (caption_dim,), "both": (image_dim, caption_dim)}.get(condition, (image_dim,))


def select_conditions(condition: Condition, image: Tensor | None, caption: Tensor | None) -> tuple[Tensor, ...]:
    """The conditions that a choice makes of the embeddings.

    Args:
        condition: one of `CHOICES`.
        image: `(B, E)`; may be None where the choice is `caption`.
        caption: `(B, E)`; may be None where the choice is `image`.

    Returns:
        `(B, E_k)` each, as many as `condition_widths` gives.
    """
    assert condition in CHOICES, f"{condition}, not one of {CHOICES}"
    given = {"image": (image,), "caption": (caption,)}.get(condition, (image, caption))
    embeddings = tuple(embedding for embedding in given if embedding is not None)
    assert len(embeddings) == len(given), f"condition {condition} lacks an embedding"
    return (signed_maximum(*embeddings),) if condition == "signed_maximum" else embeddings


class StyleInjection(nn.Module):
    """A layer's style from its intermediate latent and the conditions, in float32.

    The style is an affine map of the latent and of what two layers make of the condition. With two conditions each has
    its two layers, and the maximum of the two results counts; where embeddings and weights of both are equal, that is
    the style of one.

    Args:
        out_channels: O.
        w_dim: W.
        widths: E_k.
        lr_multiplier: of the layers before the maximum.
    """

    def __init__(self, out_channels: int, w_dim: int, widths: Sequence[int], *, lr_multiplier: float = 0.01):
        super().__init__()
        assert widths, "no condition"
        self.pre_nets = nn.ModuleList(
            nn.Sequential(
                EqualisedLinear(width, (width + w_dim) // 2, lr_multiplier=lr_multiplier, activation=True),
                EqualisedLinear((width + w_dim) // 2, w_dim, lr_multiplier=lr_multiplier, activation=True),
            )
            for width in widths
        )
        self.affine = EqualisedLinear(2 * w_dim, out_channels, bias=1.0)

    def forward(self, w: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Shape: `(B, W)`, `(B, E_k)` each -> `(B, O)` float32."""
        assert len(conditions) == len(self.pre_nets), f"{len(conditions)} conditions for {len(self.pre_nets)}"
        with full_precision(w):
            first, *others = (
                pre_net(condition.float()) for pre_net, condition in zip(self.pre_nets, conditions, strict=True)
            )
            for other in others:
                first = torch.maximum(first, other)
            return self.affine(torch.cat([first, w.float()], 1))


def with_second_condition(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network of one condition for the same network with two, which start equal.

    So a generator and a discriminator of captions alone are continued with both embeddings.

    Args:
        state: state dict of a `Generator` or a `Discriminator`.
    """
    more = {_FIRST.sub(r"\1.1.", key): value.clone() for key, value in state.items() if _FIRST.search(key)}
    return dict(state) | more
