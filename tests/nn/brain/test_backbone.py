import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.brain.backbone import MixerBackbone


def backbone(mixer: str, width: int = 12) -> MixerBackbone:
    torch.manual_seed(0)
    return MixerBackbone(width, 3, 8, num_blocks=2, mixer=mixer).eval()


def literal(network: MixerBackbone, x: Tensor) -> Tensor:
    """The published forward pass as written: two residual chains over a sequence of one, with transposes."""
    x = x.unsqueeze(1)  # (B, 1, h)
    first_chain, second_chain = x, x.transpose(1, 2)
    for channel_block, sequence_block in zip(network.channel_blocks, network.sequence_blocks, strict=True):
        x = channel_block(x) + first_chain
        first_chain = x
        x = sequence_block(x.transpose(1, 2)) + second_chain
        second_chain = x
        x = x.transpose(1, 2)
    return x.squeeze(1)


def test_published_mixer_equals_the_literal_forward_pass() -> None:
    network, x = backbone("published"), torch.randn(5, 12)
    torch.testing.assert_close(network.hidden(x), literal(network, x))


def test_published_mixer_is_affine_and_its_first_blocks_are_inert() -> None:
    network = backbone("published")
    a, b = torch.randn(2, 5, 12)
    middle = network(0.3 * a + 0.7 * b)[0]
    torch.testing.assert_close(middle, 0.3 * network(a)[0] + 0.7 * network(b)[0])
    before = network(a)[0]
    for parameter in network.channel_blocks.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(network(a)[0], before)
    network(a)[1].sum().backward()
    assert all(parameter.grad is None for parameter in network.channel_blocks.parameters())


def test_corrected_mixer_uses_its_first_blocks_and_is_not_affine() -> None:
    network = backbone("corrected")
    a, b = torch.randn(2, 5, 12)
    assert not torch.allclose(network(0.5 * a + 0.5 * b)[0], 0.5 * network(a)[0] + 0.5 * network(b)[0], atol=1e-4)
    network(a)[1].sum().backward()
    assert all(parameter.grad is not None for parameter in network.channel_blocks.parameters())


@pytest.mark.parametrize("mixer", ["published", "corrected"])
def test_shapes_and_independence_of_samples(mixer: str) -> None:
    network, x = backbone(mixer), torch.randn(4, 12)
    tokens, retrieval = network(x)
    assert tokens.shape == retrieval.shape == (4, 3, 8)
    torch.testing.assert_close(network(x[2:3])[1], retrieval[2:3])


def test_dropout_is_noise_on_each_channel_in_training() -> None:
    network, x = backbone("published").train(), torch.zeros(200, 12)
    with torch.no_grad():
        for block in network.sequence_blocks:
            block[0].bias.fill_(1.0)
            block[4].weight.fill_(1.0)
    hidden = network.hidden(x)
    assert hidden.std() > 0
    assert torch.equal(network.eval().hidden(x), network.hidden(x))
