"""Intermediate latents: mapping, style mixing."""

import pytest
import torch

from mindeye_pl.nn.stylegan2.mapping import MappingNetwork, draw_cut, mix_styles


@pytest.fixture
def mapping() -> MappingNetwork:
    torch.manual_seed(0)
    return MappingNetwork(6, 5, num_layers=3, average_decay=0.75)


def test_the_length_of_a_latent_does_not_count(mapping: MappingNetwork) -> None:
    latents = torch.randn(4, 6)
    assert mapping(latents).shape == (4, 5)
    torch.testing.assert_close(mapping(7 * latents), mapping(latents))
    assert not torch.allclose(mapping(-latents), mapping(latents))


def test_zeros_are_one_learned_constant(mapping: MappingNetwork) -> None:
    assert mapping(torch.zeros(2, 6)).eq(0).all(), "until biases are learned"
    mapping.layers[0].bias.data.fill_(30.0)
    constant = mapping(torch.zeros(3, 6))
    torch.testing.assert_close(constant, constant[:1].expand(3, 5))
    assert constant.abs().sum() > 0


def test_half_precision_does_not_reach_it(mapping: MappingNetwork) -> None:
    latents = torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mapping(latents)
    assert torch.equal(mixed, mapping(latents))


def test_the_average_follows_the_batches(mapping: MappingNetwork) -> None:
    first, second = torch.randn(3, 5), torch.randn(2, 5)
    mapping.update_average(first)
    mapping.update_average(second)
    torch.testing.assert_close(mapping.average, 0.75 * 0.25 * first.mean(0) + 0.25 * second.mean(0))
    assert "average" in mapping.state_dict()


def test_mixing_swaps_the_styles_from_the_cut_on() -> None:
    styles, others = torch.randn(2, 6, 5), torch.randn(2, 6, 5)
    mixed = mix_styles(styles, others, 2)
    assert torch.equal(mixed[:, :2], styles[:, :2])
    assert torch.equal(mixed[:, 2:], others[:, 2:])
    assert torch.equal(mix_styles(styles, others, 6), styles)


def test_cuts_are_even_over_the_layers() -> None:
    torch.manual_seed(0)
    cuts = torch.tensor([draw_cut(4, probability=0.75) for _ in range(4000)])
    shares = torch.bincount(cuts, minlength=5) / 4000
    torch.testing.assert_close(shares, torch.tensor([0, 0.25, 0.25, 0.25, 0.25]), atol=0.03, rtol=0)
    assert {draw_cut(4, probability=0.0) for _ in range(20)} == {4}
    assert {draw_cut(4, probability=1.0) for _ in range(60)} == {1, 2, 3}
