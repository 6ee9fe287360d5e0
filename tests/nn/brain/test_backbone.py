import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.brain.backbone import MixerBackbone, MLPBackbone, ResidualMLP
from mindeye_pl.nn.brain.low_level import LowLevelModel


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
        nn.init.normal_(parameter)
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


def test_residual_mlp_against_a_written_out_pass() -> None:
    torch.manual_seed(0)
    network, x = ResidualMLP(12, num_blocks=2).eval(), torch.randn(5, 12)
    nn.init.normal_(network.stem[0].bias)
    hidden = F.gelu(F.layer_norm(x, (12,), network.stem[0].weight, network.stem[0].bias))
    for linear, norm, *_ in network.blocks:
        hidden = hidden + F.gelu(F.layer_norm(hidden @ linear.weight.T + linear.bias, (12,), norm.weight, norm.bias))
    torch.testing.assert_close(network(x), hidden)


def test_dropout_is_the_stem_s_and_the_blocks_own() -> None:
    """Where the blocks add nothing, a hidden channel is zero half of the time in training, and else twice as large."""
    torch.manual_seed(0)
    network = ResidualMLP(40, num_blocks=1, activation=nn.SiLU)
    nn.init.zeros_(network.blocks[0][1].weight)
    nn.init.zeros_(network.blocks[0][1].bias)
    x = torch.randn(40).expand(500, 40)
    still, dropped = network.eval()(x), network.train()(x)
    zero = dropped == 0
    assert zero.float().mean() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(dropped[~zero], 2 * still[~zero])


def test_without_bias_there_is_none_but_the_norms() -> None:
    names = {name for name, _ in ResidualMLP(4, num_blocks=1, bias=False).named_parameters() if "bias" in name}
    assert names == {"stem.0.bias", "blocks.0.1.bias"}


@pytest.mark.parametrize("num_tokens", [3, 1])
def test_retrieval_reads_the_tokens_one_by_one(num_tokens: int) -> None:
    torch.manual_seed(0)
    network = MLPBackbone(12, num_tokens, 8, num_blocks=1, retrieval_dim=20).eval()
    tokens, retrieval = network(torch.randn(4, 12))
    assert tokens.shape == retrieval.shape == (4, num_tokens, 8)
    torch.testing.assert_close(network.retrieval_head(tokens[2:3, -1]), retrieval[2:3, -1])


def test_low_level_model_s_subjects_share_all_but_the_alignment() -> None:
    torch.manual_seed(0)
    model = LowLevelModel([7, 5], 8, num_blocks=1, latent_size=8, widths=(8, 8, 8)).eval()
    first, second = model.predict(torch.zeros(2, 7)), model.predict(torch.zeros(2, 5), subject_index=1)
    assert first.latents.shape == (2, 4, 8, 8)
    assert first.maps.shape == (2, 4, 512)
    torch.testing.assert_close(first, second)  # nothing has a bias before the first norm
    assert not torch.allclose(model.predict(torch.randn(2, 7)).latents, first.latents)
