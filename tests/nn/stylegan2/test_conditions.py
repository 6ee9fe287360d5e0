"""Conditions of the styles: which embeddings count, and that two equal ones are one."""

import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.stylegan2.conditions import (
    CHOICES,
    StyleInjection,
    condition_widths,
    select_conditions,
    signed_maximum,
    with_second_condition,
)


def test_the_choices() -> None:
    image, caption = torch.randn(2, 4), torch.randn(2, 4)
    assert [condition_widths(choice, 4, 4) for choice in CHOICES] == [(4,), (4,), (4, 4), (4,)]
    assert condition_widths("both", 4, 6) == (4, 6)
    assert select_conditions("image", image, None) == (image,)
    assert select_conditions("caption", None, caption) == (caption,)
    assert select_conditions("caption", image, caption) == (caption,)
    assert select_conditions("both", image, caption) == (image, caption)
    (joined,) = select_conditions("signed_maximum", image, caption)
    assert torch.equal(joined, signed_maximum(image, caption))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_required_embedding_is_refused_if_missing(choice: str) -> None:
    with pytest.raises(AssertionError, match=f"condition {choice} lacks an embedding"):
        select_conditions(choice, None, None)
    with pytest.raises(AssertionError, match="not one of"):
        select_conditions("neither", None, None)
    with pytest.raises(AssertionError, match="widths 4 and 6"):
        condition_widths("signed_maximum", 4, 6)


def test_the_signed_maximum_keeps_the_sign() -> None:
    first, second = torch.tensor([1.0, -3.0, 0.5, -1.0]), torch.tensor([-2.0, 2.0, 0.25, 1.0])
    assert signed_maximum(first, second).tolist() == [-2, -3, 0.5, -1]


def by_hand(injection: StyleInjection, w: Tensor, conditions: list[Tensor]) -> Tensor:
    made = []
    for layers, features in zip(injection.pre_nets, conditions, strict=True):
        for layer in layers:
            features = features @ (layer.weight * 0.01 / layer.weight.shape[1] ** 0.5).T + 0.01 * layer.bias
            features = torch.where(features > 0, features, 0.2 * features) * 2**0.5
        made.append(features)
    joined = torch.cat([torch.stack(made).amax(0), w], 1)
    return joined @ (injection.affine.weight / joined.shape[1] ** 0.5).T + injection.affine.bias


def test_the_larger_element_counts() -> None:
    torch.manual_seed(0)
    injection = StyleInjection(7, 6, (4, 8))
    assert [[tuple(layer.weight.shape) for layer in net] for net in injection.pre_nets] == [
        [(5, 4), (6, 5)],
        [(7, 8), (6, 7)],
    ]
    w, conditions = torch.randn(3, 6), [torch.randn(3, 4), torch.randn(3, 8)]
    torch.testing.assert_close(injection(w, conditions), by_hand(injection, w, conditions))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(injection(w, conditions), injection(w, conditions).float())


def test_a_style_starts_near_one() -> None:
    injection = StyleInjection(200, 32, (32,))
    assert injection(torch.zeros(1, 32), [torch.zeros(1, 32)]).eq(1).all()


def test_two_equal_conditions_are_one() -> None:
    torch.manual_seed(0)
    one, two = StyleInjection(7, 6, (4,)), StyleInjection(7, 6, (4, 4))
    two.load_state_dict(with_second_condition(one.state_dict()))
    w, condition = torch.randn(3, 6), torch.randn(3, 4)
    assert torch.equal(two(w, [condition, condition]), one(w, [condition]))
    assert not torch.allclose(two(w, [condition, torch.randn(3, 4)]), one(w, [condition]))
